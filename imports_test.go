package servercore_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// Imports point one way. This is the linter that holds them to it. It reads source files instead of asking
// `go list`, which sees one operating system at a time: the kqueue files are checked on Linux too.

const module = "github.com/servercore-go/servercore"

// A room is a folder with all below it, and what its files may import besides the standard library. A name that
// ends in a slash stands for everything below it; names of ours are relative to the module.
type room struct {
	dir   string
	may   []string // every file
	tests []string // test files, besides may and testLibraries
	not   []string // of the standard library, every file but tests
}

const (
	gnet       = "github.com/panjf2000/gnet/v2"
	bytebuffer = "github.com/valyala/bytebufferpool"
	sys        = "golang.org/x/sys/unix"
	histogram  = "github.com/HdrHistogram/hdrhistogram-go"
	testkit    = "internal/testkit"
	enginekit  = "internal/enginekit"
	echoserver = "internal/echoserver"
	budget     = "internal/budget"
	sendqueue  = "internal/sendqueue"
	reassembly = "internal/reassembly"
	checksum   = "internal/checksum"
	wsclient   = "internal/wsconn"
	chromium   = "internal/chromium"
	freeport   = "internal/freeport"
	systemd    = "github.com/coreos/go-systemd/v22/"
	deflate    = "github.com/klauspost/compress/flate"
	tomlFile   = "github.com/pelletier/go-toml/v2"
)

var rooms = []room{
	{dir: ".", tests: []string{"engine", "enginetest", "session", "frame", checksum, wsclient, "layer/websocket"}},
	{dir: "cmd", may: []string{"engine", "session", "bench", "record", "frame", echoserver, sys}, tests: []string{"pool", freeport, testkit, "internal/steady"}},
	{dir: "examples", may: []string{"engine", "session", "frame", "pool", "record", "examples/internal/chat", "examples/internal/game"}, tests: []string{chromium, freeport}},
	{dir: "examples/ongnet", may: []string{"ongnet", "session", gnet}}, // all of gnet: here and in ongnet only
	{dir: "ongnet", may: []string{"engine", "session", "internal/asynclog", "internal/reactor", gnet, gnet + "/pkg/", sys}, tests: []string{"enginetest", "internal/"}},
	{dir: "docs", tests: []string{"engine", "session", "frame", "pool", "record"}}, // the code of the guide: test files only
	{dir: "engine", may: []string{"layer", "layer/", "session", "pool", "frame", "record", "internal/", sys}, tests: []string{gnet + "/pkg/logging"}},
	{dir: "enginetest", may: []string{"engine", "session", "pool", "frame", enginekit}},
	{dir: enginekit, may: []string{"engine", "session", "pool", freeport, sys}}, // for tests, and for enginetest
	{dir: "session", may: []string{"pool", "frame", budget, sendqueue, reassembly, "internal/histogram", "internal/tokenbucket"}, tests: []string{"session", testkit, checksum},
		// It opens no socket and asks no operating system: the loop does.
		not: []string{"syscall", "os/exec", "os/signal", "net/rpc", "net/smtp"}}, // net/http is for the type of Session.Request
	{dir: "layer", may: []string{"session"}, tests: []string{"layer/", "pool", "frame", budget, checksum, testkit}, // one layer on top of another: no I/O either
		not: []string{"syscall", "os", "os/exec", "os/signal", "net/rpc", "net/smtp"}},
	{dir: "layer/websocket", may: []string{"session", "pool", "frame", deflate}, tests: []string{"layer/websocket"},
		// No I/O: bytes in, bytes out. net/http is for the types of the upgrade.
		not: []string{"syscall", "os", "os/exec", "os/signal", "net/rpc", "net/smtp"}},
	{dir: "pool", may: []string{bytebuffer}, tests: []string{"pool"}},
	{dir: "record", // bytes into a file; no session, no socket: net is for the types of addresses
		not: []string{"os/exec", "os/signal", "net/http", "net/rpc", "net/smtp"}},
	{dir: "frame", // bytes in, packets out
		not: []string{"net", "os", "syscall", "os/exec", "os/signal", "net/http", "net/rpc", "net/smtp", "io", "time"}},
	{dir: "internal", may: []string{sys}, tests: []string{"internal/"}},
	{dir: "internal/reactor", may: []string{"internal/goroutines", "internal/wheel", gnet + "/pkg/", sys}}, // gnet's poller; no session, no engine
	{dir: "internal/asynclog", tests: []string{"internal/"}},                                               // a slog.Handler is all it knows
	{dir: "internal/goroutines", tests: []string{testkit}, // stacks and nothing else
		not: []string{"net", "os", "syscall", "os/exec", "os/signal", "net/http", "net/rpc", "net/smtp"}},
	{dir: "internal/guard", // decisions about addresses: no socket, no file; the clock is the caller's
		not: []string{"net", "os", "syscall", "os/exec", "os/signal", "net/http", "net/rpc", "net/smtp", "io"}},
	{dir: "internal/looplag", may: []string{"internal/histogram"}, // times of another's clock
		not: []string{"net", "os", "syscall", "os/exec", "os/signal", "net/http", "net/rpc", "net/smtp", "io", "log/slog"}},
	{dir: "internal/watchdog", // decisions about times: no clock, no log
		not: []string{"net", "os", "syscall", "os/exec", "os/signal", "net/http", "net/rpc", "net/smtp", "io", "log/slog"}},
	{dir: echoserver, may: []string{"engine", "session", "pool", "record", "internal/unixpath", sys, systemd, tomlFile}, tests: []string{testkit, wsclient, "internal/sigstop", "layer/websocket"}}, // a command's inside
	{dir: budget, may: []string{"pool"}, tests: []string{budget}},
	{dir: sendqueue, may: []string{"pool", budget}, tests: []string{sendqueue}},
	{dir: reassembly, may: []string{"pool", "frame"}, tests: []string{reassembly}},
	{dir: "layer/tls", may: []string{"session", "pool"}, // bytes in, bytes out: no socket, no file
		not: []string{"os", "syscall", "os/exec", "os/signal", "net/http", "net/rpc", "net/smtp"}},
	{dir: checksum, may: []string{"session", "frame"}},  // a layer for tests
	{dir: wsclient, may: []string{"layer/websocket"}},   // a client for tests
	{dir: chromium, may: []string{"engine", "session"}}, // a browser for tests
	{dir: testkit, may: append([]string{"session", "pool", "frame", sys}, testLibraries...), tests: []string{"internal/"}},
	{dir: "bench", may: []string{sys, histogram}, tests: []string{"bench", freeport, "internal/steady"}}, // nothing of ours: it can load any server
	{dir: "trials", may: []string{"engine", "session", "pool", "frame", "bench", "layer/websocket", "internal/", sys}},
}

// testLibraries are for test files (and the kit that serves them) only.
var testLibraries = []string{"go.uber.org/goleak", "pgregory.net/rapid", "github.com/santhosh-tekuri/jsonschema/v6"}

// forbidden says why the file may not import imp, or "".
func forbidden(file, imp string) string {
	dir, test := path.Dir(file), strings.HasSuffix(file, "_test.go")
	home := room{dir: "?"}
	for _, r := range rooms {
		inside := r.dir == dir || r.dir != "." && strings.HasPrefix(dir, r.dir+"/")
		if inside && (home.dir == "?" || len(r.dir) > len(home.dir)) {
			home = r
		}
	}
	if home.dir == "?" {
		return "folder " + dir + " has no rule yet: add one to rooms"
	}
	if imp == "C" {
		return "the module is built without cgo"
	}
	name, ours := strings.CutPrefix(imp, module+"/")
	if !ours && imp == module {
		name, ours = ".", true
	}
	if first, _, _ := strings.Cut(imp, "/"); !ours && !strings.Contains(first, ".") {
		if !test && slices.Contains(home.not, imp) {
			return home.dir + " stays clear of package " + imp
		}
		return ""
	}
	if ours && !test && (name == testkit || name == checksum || name == wsclient || name == chromium || name == enginekit && home.dir != "enginetest") {
		return name + " is for test files"
	}
	allowed := home.may
	if test {
		allowed = slices.Concat(home.may, home.tests, testLibraries)
		if ours && name == dir { // an external test of its own package
			return ""
		}
	}
	for _, a := range allowed {
		if a == name || strings.HasSuffix(a, "/") && strings.HasPrefix(name, a) {
			return ""
		}
	}
	// Packages below a command belong to it; the commands do not share any.
	if home.dir == "cmd" && ours && strings.HasPrefix(name, dir+"/") {
		return ""
	}
	if len(allowed) == 0 {
		return home.dir + " imports nothing outside the standard library"
	}
	return home.dir + " may import " + strings.Join(allowed, ", ")
}

// checkImports returns a line for each import in the module at root that points the wrong way, and the number of
// files it has read.
func checkImports(root fs.FS) (wrong []string, files int, err error) {
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if name == "." {
				return nil
			}
			if base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_' {
				return fs.SkipDir
			}
			if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, name, source, parser.ImportsOnly)
		if err != nil {
			return err
		}
		files++
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if why := forbidden(name, imp); why != "" {
				wrong = append(wrong, fmt.Sprintf("%v: import of %s: %s", positions.Position(spec.Pos()), imp, why))
			}
		}
		return nil
	})
	return wrong, files, err
}

func TestImportDirections(t *testing.T) {
	wrong, files, err := checkImports(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range wrong {
		t.Error(line)
	}
	if files < 2 { // this one is there
		t.Errorf("only %d files were read", files)
	}
}

// A linter that cannot fail proves nothing.
func TestImportDirectionsCanFail(t *testing.T) {
	source := func(imp string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte("//go:build darwin\n\npackage p\n\nimport _ \"" + imp + "\"\n")}
	}
	tree := fstest.MapFS{
		"go.mod":                   {Data: []byte("module " + module)},
		"internal/reactor/run.go":  source(gnet + "/pkg/netpoll"),
		"session/bad_darwin.go":    source(gnet),
		"session/testdata/x/x.go":  source(gnet),
		"tools/go.mod":             {Data: []byte("module " + module + "/tools")},
		"tools/tools.go":           source(gnet),
		"bench/peers/go.mod":       {Data: []byte("module " + module + "/bench/peers")},
		"bench/peers/gnet/main.go": source(gnet),
	}
	wrong, files, err := checkImports(tree)
	if err != nil || files != 2 || len(wrong) != 1 || !strings.HasPrefix(wrong[0], "session/bad_darwin.go:5:8: ") {
		t.Errorf("%d files read, error %v, found %q", files, err, wrong)
	}
}

func TestImportRule(t *testing.T) {
	for _, tt := range []struct {
		file, imp string
		ok        bool
	}{
		{"cmd/echoserver/main.go", module + "/engine", true},
		{"cmd/echoserver/main.go", module + "/session", true},
		{"cmd/echoserver/main.go", module + "/pool", false},
		{"cmd/echoserver/main.go", module + "/internal/wheel", false},
		{"cmd/echoserver/main.go", gnet, false},
		{"cmd/echoserver/main.go", module + "/" + echoserver, true},
		{"cmd/netbench/demo.go", module + "/" + echoserver, true},
		{echoserver + "/modes.go", module + "/engine", true},
		{echoserver + "/modes.go", module + "/session", true},
		{echoserver + "/modes.go", module + "/bench", false},
		{echoserver + "/manager.go", systemd + "daemon", true},
		{"cmd/echoserver/main.go", tomlFile, false},
		{echoserver + "/modes.go", gnet, false},
		{"bench/html.go", module + "/" + echoserver, false},
		{"cmd/echoserver/main_test.go", module + "/pool", true},
		{"cmd/echoserver/main_test.go", testLibraries[0], true},
		{"cmd/netbench/main.go", module + "/cmd/echoserver/part", false},
		{"cmd/netbench/main.go", module + "/cmd/netbench/part", true},
		{"engine/loop.go", gnet, false},
		{"engine/loop.go", gnet + "/pkg/errors", false},
		{"ongnet/adapter.go", gnet, true},
		{"ongnet/conn.go", gnet + "/pkg/socket", true},
		{"ongnet/loop.go", module + "/internal/wheel", false},
		{"ongnet/contract_test.go", module + "/enginetest", true},
		{"examples/ongnet/main.go", gnet, true},
		{"examples/echo/main.go", gnet, false},
		{"examples/internal/chat/browser_test.go", module + "/" + chromium, true},
		{"examples/internal/chat/web.go", module + "/" + chromium, false},
		{"engine/loop.go", module + "/ongnet", false},
		{"engine/gnetlog_test.go", gnet + "/pkg/logging", true},
		{"engine/loop.go", module + "/internal/reactor", true},
		{"internal/reactor/run.go", gnet + "/pkg/netpoll", true},
		{"internal/reactor/run.go", gnet, false},
		{"internal/reactor/loop.go", module + "/internal/wheel", true},
		{"internal/reactor/loop.go", module + "/session", false},
		{"internal/reactor/loop.go", module + "/engine", false},
		{"internal/reactor/loop.go", module + "/pool", false},
		{"internal/reactor/loop.go", module + "/internal/proxyproto", false},
		{"engine/loop.go", module + "/internal/wheel", true},
		{"engine/loop.go", module + "/" + testkit, false},
		{"engine/loop_test.go", module + "/" + testkit, true},
		{"engine/loop.go", module + "/bench", false},
		{"engine/loop.go", module + "/cmd/echoserver", false},
		{"engine/loop.go", bytebuffer, false},
		{"engine/loop.go", testLibraries[1], false},
		{"session/session.go", module + "/pool", true},
		{"session/session.go", module + "/engine", false},
		{"session/session.go", module + "/internal/wheel", false},
		{"session/session.go", gnet, false},
		{"session/session.go", "net", true},
		{"session/session.go", "syscall", false},
		{"session/session.go", sys, false},
		{"session/session_test.go", module + "/session", true},
		{"session/session_test.go", module + "/engine", false},
		{"pool/pool.go", bytebuffer, true},
		{"pool/pool.go", module + "/session", false},
		{"pool/pool.go", gnet, false},
		{"layer/websocket/deflate.go", deflate, true},
		{"layer/websocket/open.go", module + "/session", true},
		{"layer/websocket/open.go", module + "/engine", false},
		{"layer/websocket/open.go", "os", false},
		{"session/session.go", module + "/layer/websocket", false},
		{"frame/varint.go", "encoding/binary", true},
		{"frame/varint.go", "net", false},
		{"frame/varint.go", "time", false},
		{"frame/varint.go", module + "/session", false},
		{"frame/varint.go", module + "/pool", false},
		{"frame/varint.go", bytebuffer, false},
		{"frame/varint_test.go", module + "/frame", true},
		{"frame/varint_test.go", module + "/session", false},
		{"bench/plan.go", module + "/session", false},
		{"bench/poller_linux.go", sys, true},
		{"bench/histogram.go", histogram, true},
		{"bench/plan.go", gnet, false},
		{"bench/result_test.go", testLibraries[2], true},
		{"cmd/netbench/main.go", histogram, false},
		{"bench/plan_test.go", module + "/engine", false},
		{"bench/plan_test.go", module + "/bench", true},
		{"internal/wheel/wheel.go", sys, true},
		{"internal/wheel/wheel.go", module + "/session", false},
		{"internal/asynclog/asynclog.go", "log/slog", true},
		{"internal/asynclog/asynclog.go", module + "/internal/goroutines", false},
		{"internal/asynclog/asynclog_test.go", module + "/internal/goroutines", true},
		{"internal/goroutines/role.go", module + "/session", false},
		{"internal/goroutines/role.go", "net", false},
		{"internal/goroutines/finder_test.go", module + "/" + testkit, true},
		{"internal/goroutines/finder_test.go", module + "/" + enginekit, false},
		{"internal/unixpath/remove.go", sys, true},
		{"internal/unixpath/binding.go", module + "/engine", false},
		{"internal/guard/guard.go", "net/netip", true},
		{"internal/guard/guard.go", "net", false},
		{"internal/guard/guard.go", sys, false},
		{"engine/guard.go", module + "/internal/guard", true},
		{checksum + "/open.go", module + "/session", true},
		{checksum + "/open.go", module + "/pool", false},
		{"session/layer_test.go", module + "/" + checksum, true},
		{"session/layer.go", module + "/" + checksum, false},
		{"engine/layer.go", module + "/" + checksum, false},
		{"internal/watchdog/watchdog.go", "time", true},
		{"internal/watchdog/watchdog.go", "log/slog", false},
		{"internal/watchdog/watchdog.go", module + "/session", false},
		{testkit + "/peer.go", module + "/session", true},
		{testkit + "/peer.go", testLibraries[0], true},
		{testkit + "/peer.go", module + "/engine", false},
		{"doc.go", "fmt", true},
		{"doc.go", module + "/engine", false},
		{"engine_test.go", module + "/enginetest", true},
		{"enginetest/server.go", module + "/engine", true},
		{"enginetest/server.go", module + "/" + enginekit, true},
		{"enginetest/server.go", sys, false},
		{"enginetest/server.go", testLibraries[0], false},
		{"engine/loop_test.go", module + "/" + enginekit, true},
		{"cmd/echoserver/main.go", module + "/" + enginekit, false},
		{"engine_test.go", gnet, false},
		{"engine_test.go", "C", false},
		{"util/strings.go", "fmt", false},
	} {
		if why := forbidden(tt.file, tt.imp); (why == "") != tt.ok {
			t.Errorf("%s imports %s: allowed %v, want %v %s", tt.file, tt.imp, why == "", tt.ok, why)
		}
	}
}

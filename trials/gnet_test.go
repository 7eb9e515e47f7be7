//go:build linux

package trials

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var gnetVersion = flag.String("gnet", "latest", "the version of gnet that T26 builds the engine with")

// T26: what the engine relies on in gnet holds for the newest gnet too. It has gnet's poller, and not its accept.
//
// Fails with a gnet that has no poller for others: -gnet v2.3.0.
func TestT26NewestGnet(t *testing.T) {
	const module, criterion = "github.com/panjf2000/gnet/v2", "the engine and its tests hold with the newest gnet"
	command := tool(t, "T26", "go")
	run := func(args ...string) (string, error) {
		cmd := exec.Command(command, args...)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "GOWORK=off") // a workspace has no -modfile
		out, err := cmd.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	pinned, err := run("list", "-m", "-f", "{{.Version}}", module)
	if err != nil {
		t.Fatal(pinned, err)
	}
	newest, err := run("list", "-m", "-f", "{{.Version}}", module+"@"+*gnetVersion)
	if err != nil {
		skip(t, "T26", "the module proxy does not tell which gnet is the newest: "+newest)
	}
	mod := filepath.Join(t.TempDir(), "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join("..", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(filepath.Dir(mod), name), b, 0o600))
	}
	out, err := run("get", "-modfile="+mod, module+"@"+newest)
	if err == nil {
		out, err = run("test", "-modfile="+mod, "-count=1", "./engine")
	}
	l := line{"T26", criterion, "pinned is " + pinned + ", the newest " + newest, pass}
	if err != nil {
		l.verdict = fail
		t.Error(out, err)
	}
	note(l)
}

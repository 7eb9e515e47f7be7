package echoserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// The program serves and can be restarted in a root folder that contains nothing else (no /dev, no /proc, no /etc).
func TestEmptyRoot(t *testing.T) {
	root := tempDir(t)
	build := exec.Command("go", "build", "-o", filepath.Join(root, "echoserver"), ".")
	build.Dir = "../../cmd/echoserver" // a module of its own
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("/echoserver", "-addr", "127.0.0.1:0", "-drain", "1m", "-log-level", "debug")
	cmd.Path = "/echoserver"
	cmd.Err = nil
	cmd.Stdin = os.Stdin // or else package exec opens /dev/null, outside
	cmd.SysProcAttr = inNamespace(syscall.CLONE_NEWPID)
	cmd.SysProcAttr.Chroot = root
	cmd.Dir = "/"
	p := launch(t, cmd)
	for n := 1; n <= 2; n++ {
		if err := call(p.addr()); err != nil {
			t.Error(err)
		}
		p.signal(syscall.SIGUSR2)
		p.successor(n)
	}
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

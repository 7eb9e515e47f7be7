package echoserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// copyOf copies this program to path.
func copyOf(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Link(self, path); err == nil {
		return
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o700); err != nil {
		t.Fatal(err)
	}
}

// A restart works if the folder of the start has been deleted or renamed, also that of the predecessor.
func TestRestartWithoutItsFolder(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"removed":  os.RemoveAll,
		"renamed":  func(dir string) error { return os.Rename(dir, dir+".old") },
		"replaced": func(dir string) error { _ = os.Rename(dir, dir+".old"); return os.WriteFile(dir, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			reap(t)
			self, _ := os.Executable()
			dir := filepath.Join(tempDir(t), "folder")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m")
			cmd.Dir = dir
			p := launch(t, cmd)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			restartTwice(t, p)
		})
	}
}

// restartTwice restarts the program twice and ends the last process.
func restartTwice(t *testing.T, p *process) {
	t.Helper()
	p.signal(syscall.SIGUSR2)
	first := p.successor(1)
	p.wantExit(exitOK)
	if err := syscall.Kill(first, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	second := p.successor(2)
	wantExitOf(t, first, exitOK)
	if err := call(p.addr()); err != nil {
		t.Error(err)
	}
	kill(t, second)
	wantExitOf(t, second, exitOK)
}

// A successor starts in the folder that now has the name of the first one, as with a link to the version in use.
func TestRestartInTheFolderOfThatName(t *testing.T) {
	reap(t)
	dir := tempDir(t)
	link := filepath.Join(dir, "current")
	for _, version := range []string{"v1", "v2"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("v1", link); err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-drain", "1m")
	cmd.Dir = link
	cmd.Env = []string{"PWD=" + link}
	p := launch(t, cmd)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("v2", link); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	if now, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || filepath.Base(now) != "v2" {
		t.Errorf("the successor runs in %s, %v", now, err)
	}
	p.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A restart starts the program that is at the path now. If none can run there, the restart fails and logs why, and a later one may
// succeed.
func TestRestartOfAReplacedProgram(t *testing.T) {
	reap(t)
	dir := tempDir(t)
	path := filepath.Join(dir, "program")
	copyOf(t, path)
	p := launch(t, exec.Command(path, "-addr", "127.0.0.1:0", "-drain", "1m"))
	failed := 0
	fail := func(why string) {
		t.Helper()
		p.signal(syscall.SIGUSR2)
		failed++
		p.log.wait(t, "the restart has failed; this process goes on", failed)
		p.log.wait(t, why, 1)
		if err := call(p.addr()); err != nil {
			t.Error(err)
		}
		if c := childrenOf(t, p.cmd.Process.Pid); len(c) > 0 {
			t.Errorf("children %v are left", c)
		}
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	fail("no such file or directory")
	if err := os.WriteFile(path, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	fail("exec format error")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	fail("permission denied")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	fail("ended before it accepted: exit status 7")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nkill -ABRT $$\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	fail("ended before it accepted: signal: aborted")

	// The new version is another file, which writes a mark.
	script := fmt.Sprintf("#!/bin/sh\n: >%s/new\nexec %s.old \"$@\"\n", dir, path)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	if _, err := os.Stat(filepath.Join(dir, "new")); err != nil {
		t.Error(err)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A restart works if the program was started under a name by which it cannot be found.
func TestRestartUnderAnotherName(t *testing.T) {
	reap(t)
	self, _ := os.Executable()
	for _, name := range []string{"nowhere", "sh", "./sub/gone", ""} {
		cmd := exec.Command(self)
		cmd.Args = []string{name, "-addr", "127.0.0.1:0", "-drain", "1m"}
		p := launch(t, cmd)
		restartTwice(t, p)
	}
}

package echoserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// copyOf puts this program at path.
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

// The folder that the program was started in may go or get another name, and so may the one of its predecessor.
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

// restartTwice wants two restarts in a row, and ends the last process.
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

// A successor starts in the folder of that name, which may be another one by now, as with a link to the version in use.
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
		t.Errorf("it runs in %s, %v", now, err)
	}
	p.wantExit(exitOK)
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
}

// A restart starts what is at the path of the program now. Without anything that runs there, it fails and says why, until
// there is something again.
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
		p.log.wait(t, "not restarted; this process goes on", failed)
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

	// The new version is another file: it leaves a mark.
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

// The name that a program was started by need not be one that it is found by.
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

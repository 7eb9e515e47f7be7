package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are what the machine holds, by name there and by package from the root of the repository.
var programs = []struct{ name, dir string }{
	{"init", "tools/million/guest"},
	{"echoserver", "cmd/echoserver"},
	{"netbench", "cmd/netbench"},
}

// build makes the programs and returns the initramfs with them.
func (c *config) build(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOWORK").Output()
	work := strings.TrimSpace(string(root))
	if err != nil || work == "" || work == "off" {
		return "", fmt.Errorf("the repository's go.work is not in use: %w", err)
	}
	fmt.Println("== building the programs of the machine")
	for _, p := range programs {
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(c.cache, "bin", p.name), ".")
		build.Dir = filepath.Join(filepath.Dir(work), p.dir)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build of %s: %w: %s", p.dir, err, out)
		}
	}
	image := filepath.Join(c.cache, "initramfs")
	return image, c.pack(image)
}

func (c *config) pack(image string) error {
	out, err := os.Create(image)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(out)
	w := &cpioWriter{out: buffered}
	for _, dir := range []string{"dev", "proc", "sys", "tmp"} {
		w.add(dir, modeDir, nil)
	}
	for _, p := range programs {
		content, err := os.ReadFile(filepath.Join(c.cache, "bin", p.name))
		if err != nil {
			return errors.Join(err, out.Close())
		}
		w.add(p.name, modeProgram, content)
	}
	return errors.Join(w.close(), buffered.Flush(), out.Close())
}

// revision names the commit that is measured, with a plus if files differ from it.
func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

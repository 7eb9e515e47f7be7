//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	module = "github.com/servercore-go/servercore"
	nested = module + "/bench/peers"
)

// buildGo builds the programs in Go into dir, and makes the servers' certificate there. Each is built in its own module, without go.work, with the dependencies that a user gets.
func buildGo(ctx context.Context, dir string) error {
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return fmt.Errorf("run compare from the folder bench/peers of the repository: %w", err)
	}
	if _, err := output(ctx, root, "go", "build", "-o", dir+"/", "./cmd/netbench"); err != nil {
		return err
	}
	if _, err := output(ctx, filepath.Join(root, "cmd", "echoserver"), "go", "build", "-o", dir+"/", "."); err != nil {
		return err
	}
	peers, err := nestedDir(ctx)
	if err != nil {
		return err
	}
	if _, err = output(ctx, peers, "go", "build", "-o", dir+"/", "./ours", "./gnet", "./netpoll", "./nbio", "./std",
		"./coder", "./gorilla", "./gws", "./gobwas", "./deflate"); err != nil {
		return err
	}
	return writeCert(dir)
}

// buildC builds the programs in C into dir.
func buildC(ctx context.Context, dir string) error {
	peers, err := nestedDir(ctx)
	if err != nil {
		return err
	}
	for _, program := range []string{cepoll, "cload"} {
		source := filepath.Join(program, program+".c")
		if _, err := output(ctx, peers, "gcc", "-O2", "-o", filepath.Join(dir, program), source); err != nil {
			return err
		}
	}
	return nil
}

func nestedDir(ctx context.Context) (string, error) {
	return output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", nested)
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		text := ""
		if exit, ok := err.(*exec.ExitError); ok {
			text = "\n" + strings.TrimSpace(string(exit.Stderr))
		}
		return "", fmt.Errorf("%s: %w%s", strings.Join(cmd.Args, " "), err, text)
	}
	return strings.TrimSpace(string(out)), nil
}

// versions returns the versions from which the programs in dir were built.
func versions(dir string) map[string]string {
	found := map[string]string{}
	for program, path := range map[string]string{
		"gnet": "github.com/panjf2000/gnet/v2", "netpoll": "github.com/cloudwego/netpoll", "nbio": "github.com/lesismal/nbio",
		"coder": "github.com/coder/websocket", "gorilla": "github.com/gorilla/websocket", "gws": "github.com/lxzan/gws", "gobwas": "github.com/gobwas/ws",
	} {
		info, err := buildinfo.ReadFile(filepath.Join(dir, program))
		if err != nil {
			continue
		}
		for _, d := range info.Deps {
			if d.Path == path {
				found[program] = d.Version
			}
		}
	}
	if info, err := buildinfo.ReadFile(filepath.Join(dir, "echoserver")); err == nil {
		setting := map[string]string{}
		for _, s := range info.Settings {
			setting[s.Key] = s.Value
		}
		if revision := setting["vcs.revision"]; revision != "" {
			found[ours] = revision[:min(12, len(revision))]
			if setting["vcs.modified"] == "true" {
				found[ours] += ", modified"
			}
		}
		found["std"] = info.GoVersion
	}
	if gcc, err := output(context.Background(), "", "gcc", "-dumpfullversion"); err == nil {
		found[cepoll] = "gcc " + gcc
	}
	return found
}

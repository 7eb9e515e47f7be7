package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kernelPackage depends on the newest kernel for virtual machines: serial console, loopback and initramfs are built in, so it needs no modules.
const kernelPackage = "linux-image-cloud-amd64"

// findKernel returns the kernel to boot: that of -kernel, the one in the cache, or Debian's, which is fetched and unpacked, not installed.
func (c *config) findKernel(ctx context.Context) (string, error) {
	if c.kernel != "" {
		return filepath.Abs(c.kernel)
	}
	if have, err := filepath.Glob(filepath.Join(c.cache, "vmlinuz-*")); err != nil || len(have) > 0 {
		return have[len(have)-1], err
	}
	depends, err := exec.CommandContext(ctx, "apt-cache", "depends", kernelPackage).Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache depends %s: %w; on a system without apt, name a kernel with -kernel", kernelPackage, err)
	}
	_, name, ok := strings.Cut(string(depends), "Depends: linux-image-")
	if !ok {
		return "", fmt.Errorf("%s depends on no kernel; apt-get update may help, or name one with -kernel", kernelPackage)
	}
	name, _, _ = strings.Cut(name, "\n")
	name = "linux-image-" + strings.TrimSpace(name)
	fmt.Printf("== fetching %s into %s\n", name, c.cache)
	dir, err := os.MkdirTemp(c.cache, "package")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	fetch := exec.CommandContext(ctx, "apt-get", "download", "-q", name)
	fetch.Dir = dir
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("apt-get download %s: %w: %s", name, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("apt-get download %s has left %d packages: %w", name, len(files), err)
	}
	return unpackKernel(ctx, files[0], c.cache)
}

// unpackKernel takes the kernel out of its package.
func unpackKernel(ctx context.Context, deb, dir string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // dpkg-deb need not write the rest
	unpack := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	pipe, err := unpack.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := unpack.Start(); err != nil {
		return "", err
	}
	defer func() { cancel(); _ = unpack.Wait() }()
	for files := tar.NewReader(pipe); ; {
		h, err := files.Next()
		if err != nil {
			return "", errors.Join(fmt.Errorf("%s has no kernel", deb), err)
		}
		name := filepath.Base(h.Name)
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(name, "vmlinuz-") {
			continue
		}
		to := filepath.Join(dir, name)
		out, err := os.Create(to + ".part")
		if err != nil {
			return "", err
		}
		_, err = io.Copy(out, files)
		if err = errors.Join(err, out.Close()); err != nil {
			return "", err
		}
		return to, os.Rename(to+".part", to)
	}
}

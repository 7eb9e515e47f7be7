package main

import (
	"fmt"
	"io"
)

// A cpioWriter writes an archive in the form "newc", which the kernel unpacks as its first file system
// (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel): a header of hexadecimal fields, the name, the content, the last
// two padded to four bytes.
type cpioWriter struct {
	out  io.Writer
	inum int
	err  error
}

const (
	modeDir     = 0o040755
	modeProgram = 0o100755
)

// add appends a file or a folder. The first error stays; close returns it.
func (w *cpioWriter) add(name string, mode int, content []byte) {
	if w.err != nil {
		return
	}
	w.inum++
	const links, padding = 1, "\x00\x00\x00"
	head := "070701"
	for _, field := range []int{w.inum, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0} {
		head += fmt.Sprintf("%08x", field)
	}
	head += name + "\x00"
	for _, part := range []string{head, padding[:-len(head)&3], string(content), padding[:-len(content)&3]} {
		if _, w.err = io.WriteString(w.out, part); w.err != nil {
			return
		}
	}
}

// close ends the archive.
func (w *cpioWriter) close() error {
	w.add("TRAILER!!!", 0, nil)
	return w.err
}

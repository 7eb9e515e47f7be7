package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A file is an output file. An existing file stays unchanged until commit, which replaces it as a whole.
type file struct {
	name string // as given; "" for no file
	path string // name with symbolic links resolved
	mode fs.FileMode
	// exists says that the file exists already. Its mode is kept.
	exists bool
	// inPlace says that the file is written to, not replaced: a pipe, a device, or a file in a folder that takes no new file.
	inPlace bool
	text    bytes.Buffer
}

// newFile checks that the file can be written, so that a typing error in a name does not cost a run. It changes nothing.
// An empty name stands for no file.
func newFile(name string) (*file, error) {
	f := &file{name: name, path: name, mode: 0o666}
	switch name {
	case "":
		return f, nil
	case "-":
		return nil, errors.New("- is for -json only: name a file")
	}
	// Replace the target of a symbolic link, not the link. Names of open files, such as /dev/stdout, are not resolved.
	open := strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "/proc/")
	if path, err := filepath.EvalSymlinks(name); err == nil && !open {
		f.path = path
	}
	switch info, err := os.Stat(f.path); {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("cannot write %s: it is a folder", name)
	case err == nil && (open || !info.Mode().IsRegular()):
		f.inPlace = true
		return f, nil
	case err == nil:
		existing, err := os.OpenFile(f.path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		existing.Close()
		f.exists, f.mode = true, info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	trial, err := f.beside()
	if err != nil {
		f.inPlace = f.exists
		if f.inPlace {
			err = nil
		}
		return f, err
	}
	return f, errors.Join(trial.Close(), os.Remove(trial.Name()))
}

// beside creates a temporary file in the folder of f.
func (f *file) beside() (*os.File, error) {
	for n := range 100 {
		name := filepath.Join(filepath.Dir(f.path), fmt.Sprintf(".%s.%d-%d.tmp", filepath.Base(f.path), os.Getpid(), n))
		b, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
		var path *fs.PathError
		switch {
		case err == nil:
			return b, nil
		case errors.Is(err, fs.ErrExist): // left behind by a process that was killed
		case errors.As(err, &path):
			return nil, &fs.PathError{Op: "create", Path: f.name, Err: path.Err}
		default:
			return nil, err
		}
	}
	return nil, &fs.PathError{Op: "create", Path: f.name, Err: fs.ErrExist}
}

// commit writes the whole text to the file, or nothing.
func (f *file) commit() error {
	if f.name == "" {
		return nil
	}
	if f.inPlace {
		out, err := os.OpenFile(f.path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return err
		}
		_, err = f.text.WriteTo(out)
		return errors.Join(err, out.Close())
	}
	out, err := f.beside()
	if err != nil {
		return err
	}
	if _, err = f.text.WriteTo(out); err == nil && f.exists {
		err = out.Chmod(f.mode)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(out.Name(), f.path)
	}
	if err != nil {
		os.Remove(out.Name())
	}
	return err
}

// commit writes all the files. Every text is complete before the first file changes.
func commit(files ...*file) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.commit())
	}
	return errors.Join(errs...)
}

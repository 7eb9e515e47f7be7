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

// A file is one that a result goes to. What it holds from an earlier run stays as it is until commit, which replaces it
// as a whole.
type file struct {
	name string // as it was given; "" for no file
	path string // where the name leads to
	mode fs.FileMode
	// exists: there is one already, whose mode stays.
	exists bool
	// inPlace: it is written to rather than replaced: a pipe or device, or in a folder that takes no new file.
	inPlace bool
	text    bytes.Buffer
}

// newFile checks that the file can be written, so that a typing error in a name does not cost a run. It changes nothing.
// No name is no file.
func newFile(name string) (*file, error) {
	f := &file{name: name, path: name, mode: 0o666}
	switch name {
	case "":
		return f, nil
	case "-":
		return nil, errors.New("- is for -json only: name a file")
	}
	// What a link leads to is replaced, not the link. The names of open files, such as /dev/stdout, are no such links.
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

// beside makes a new file in the folder of f.
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

// commit gives the file its text, all of it or nothing.
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

// commit gives all the files their texts. Each text is complete before the first file changes.
func commit(files ...*file) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.commit())
	}
	return errors.Join(errs...)
}

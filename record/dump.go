package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Dump writes what the ring holds to a file, "" for that of Create. The file is replaced when everything is written: a Dump that fails
// leaves the one before as it is. Recording goes on. Dump waits for the disk, so it is not for a callback.
func (w *Writer) Dump(path string) error {
	if !w.memory.ring {
		return errors.New("record: Dump needs Options.Ring")
	}
	if path == "" {
		path = w.path
	}
	if path == "" {
		return errors.New("record: Dump has no path, and Create had none")
	}
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		return ErrClosed
	}
	whole, last := w.memory.pin()
	s := w.stats
	w.mu.Unlock()
	err := writeDump(path, whole, last, appendStatistics(nil, w.now(time.Time{}), s.Records, s.Dropped))
	w.mu.Lock()
	w.memory.unpin(whole)
	w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// writeDump writes a file and has it take the place of path.
func writeDump(path string, whole []*chunk, last, end []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(appendHeader(nil))
	for _, c := range whole {
		if err == nil {
			_, err = f.Write(c.b)
		}
	}
	if err == nil {
		_, err = f.Write(append(last, end...))
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

package echoserver

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/record"
)

// recorder is the recording of -record. nil records nothing.
type recorder struct {
	*record.Writer
	path  string
	log   *slog.Logger
	dumps chan os.Signal // SIGUSR1; nil without -record-ring
	gone  chan struct{}  // closed when nothing is written on SIGUSR1 any more
}

// newRecorder begins to record, if -record asks for it. The process that follows another one has a file of its own: the other still
// writes to the first. whole is false for a server inside another program, which handles no SIGUSR1.
func newRecorder(c *config, follows, whole bool, log *slog.Logger) (*recorder, error) {
	if c.record == "" {
		return nil, nil
	}
	r := &recorder{path: c.record, log: log}
	if follows {
		r.path = inserted(c.record, fmt.Sprint(os.Getpid()))
	}
	var err error
	r.Writer, err = record.Create(r.path, record.Options{Ring: c.recordRing << 20, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("-record: %w", err)
	}
	if c.recordRing > 0 && whole {
		r.dumps, r.gone = make(chan os.Signal, 1), make(chan struct{})
		signal.Notify(r.dumps, syscall.SIGUSR1)
		go r.serve()
	}
	return r, nil
}

// inserted returns a path with a dash and more before the extension of its name.
func inserted(path, more string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + more + ext
}

// dumpTime is the form of the time, in UTC, in the name of a file.
const dumpTime = "20060102T150405.000000"

// serve writes the recording on each signal.
func (r *recorder) serve() {
	defer close(r.gone)
	for range r.dumps {
		path := inserted(r.path, time.Now().UTC().Format(dumpTime))
		if err := r.Dump(path); err != nil {
			r.log.Error("the recording could not be written", "err", err)
			continue
		}
		r.log.Info("the recording is written", "file", path)
	}
}

// diskTime is how long the end waits for the disk.
const diskTime = 2 * time.Second

// close ends recording. The engine has ended, or has never begun.
func (r *recorder) close() {
	if r == nil {
		return
	}
	ended := make(chan error, 1)
	go func() {
		if r.dumps != nil {
			signal.Stop(r.dumps)
			close(r.dumps)
			<-r.gone
		}
		ended <- r.Close()
	}()
	select {
	case err := <-ended:
		if err != nil && r.Stats().Err == nil { // that was logged
			r.log.Error("the recording is not whole", "err", err)
		}
	case <-time.After(diskTime):
		r.log.Error("the recording is not whole: the disk takes too long", "file", r.path)
	}
}

package main

import (
	"errors"
	"io"
	"os"

	"github.com/servercore-go/servercore/bench"
)

// outputs are the files of a run, nil where none was asked for.
type outputs struct{ json, hgrm, html *os.File }

func openFiles(cfg *config) (outputs, error) {
	var o outputs
	var err error
	create := func(name string) *os.File {
		if name == "" || name == "-" || err != nil {
			return nil
		}
		var f *os.File
		f, err = os.Create(name)
		return f
	}
	o.json, o.hgrm, o.html = create(cfg.json), create(cfg.hgrm), create(cfg.html)
	if err != nil {
		o.close()
	}
	return o, err
}

// close is for the ways out that have written nothing; write has closed what it wrote.
func (o outputs) close() {
	o.json.Close()
	o.hgrm.Close()
	o.html.Close()
}

// write writes the table to stdout, unless JSON goes there or -quiet was given, and the files.
func (o outputs) write(r *bench.Result, cfg *config, stdout io.Writer) error {
	var errs []error
	if cfg.json == "-" {
		errs = append(errs, r.WriteJSON(stdout))
	} else if cfg.table && !cfg.quiet {
		errs = append(errs, r.WriteTable(stdout))
	}
	if o.json != nil {
		errs = append(errs, r.WriteJSON(o.json), o.json.Close())
	}
	if o.hgrm != nil {
		errs = append(errs, r.WriteHGRM(o.hgrm), o.hgrm.Close())
	}
	if o.html != nil {
		errs = append(errs, r.WriteHTML(o.html), o.html.Close())
	}
	return errors.Join(errs...)
}

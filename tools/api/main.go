// Api writes down the public surface: one line for each exported name of each package that others can import, of the library and of the modules
// beside it that others can require.
//
//	go -C tools run ./api          write docs/api.txt
//	go -C tools run ./api -check   compare with it, show what differs, exit code 1
//
// It needs no history, so it works in a shallow clone. docs/decisions/0018-api-check.md says why it is done so.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// modules are those that others can require, by folder.
var modules = []string{"", "observe", "cluster"}

const (
	root   = ".."
	file   = root + "/docs/api.txt"
	module = "github.com/servercore-go/servercore"
)

func main() {
	check := flag.Bool("check", false, "compare with docs/api.txt instead of writing it")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	lines, err := surface()
	if err != nil {
		return err
	}
	now := []byte(strings.Join(lines, "\n") + "\n")
	if !check {
		return os.WriteFile(file, now, 0o644)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if bytes.Equal(before, now) {
		return nil
	}
	for _, line := range differences(strings.Split(strings.TrimSuffix(string(before), "\n"), "\n"), lines) {
		fmt.Println(line)
	}
	return errors.New("the public surface has changed: type make api, and say in CHANGELOG.md what users notice")
}

// differences returns the lines that only one of the two sorted lists has, with - or + in front.
func differences(before, now []string) (diff []string) {
	for _, l := range before {
		if _, found := slices.BinarySearch(now, l); !found {
			diff = append(diff, "-"+l)
		}
	}
	for _, l := range now {
		if _, found := slices.BinarySearch(before, l); !found {
			diff = append(diff, "+"+l)
		}
	}
	if diff == nil {
		diff = []string{"docs/api.txt is not sorted, or has lines twice"}
	}
	return diff
}

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Name, Export string
	DepOnly                  bool
	GoFiles                  []string
}

// surface returns the lines of all public packages, sorted.
func surface() (lines []string, err error) {
	for _, m := range modules {
		some, err := surfaceOf(m)
		if err != nil {
			return nil, err
		}
		lines = append(lines, some...)
	}
	slices.Sort(lines)
	return slices.Compact(lines), nil
}

// surfaceOf returns those of a module, in any order.
func surfaceOf(folder string) (lines []string, err error) {
	// The same on every machine: the surface is that of Linux on amd64.
	list := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Name,Export,DepOnly,GoFiles", "./...")
	list.Dir = filepath.Join(root, folder)
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64")
	if folder == "" { // the others have many dependencies, which other steps of the gate build as well: not for this one anew
		list.Env = append(list.Env, "CGO_ENABLED=0", "GOWORK=off")
	}
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	exports := make(map[string]string)
	var public []string
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		internal := strings.Contains(p.ImportPath+"/", "/internal/")
		if !p.DepOnly && p.Name != "main" && !internal && len(p.GoFiles) > 0 {
			public = append(public, p.ImportPath)
		}
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, path := range public {
		pkg, err := from.Import(path)
		if err != nil {
			return nil, err
		}
		lines = append(lines, describe(pkg)...)
	}
	return lines, nil
}

// describe returns a line for each exported name of a package, each exported field and each exported method.
func describe(pkg *types.Package) (lines []string) {
	name := strings.TrimPrefix(strings.TrimPrefix(pkg.Path(), module), "/")
	add := func(format string, args ...any) {
		lines = append(lines, name+": "+fmt.Sprintf(format, args...))
	}
	qualify := func(other *types.Package) string {
		if other == pkg {
			return ""
		}
		return other.Name()
	}
	write := func(t types.Type) string { return types.TypeString(t, qualify) }
	for _, id := range pkg.Scope().Names() {
		o := pkg.Scope().Lookup(id)
		if !o.Exported() {
			continue
		}
		switch o := o.(type) {
		case *types.Const:
			add("const %s %s = %s", id, write(o.Type()), o.Val().ExactString())
		case *types.TypeName:
			describeType(o, add, write)
		default: // a function or a variable
			add("%s", types.ObjectString(o, qualify))
		}
	}
	return lines
}

func describeType(o *types.TypeName, add func(string, ...any), write func(types.Type) string) {
	if o.IsAlias() {
		add("type %s = %s", o.Name(), write(types.Unalias(o.Type())))
		return
	}
	t := o.Type()
	named := t.(*types.Named)
	parameters := ""
	if p := named.TypeParams(); p.Len() > 0 {
		var each []string
		for i := range p.Len() {
			each = append(each, p.At(i).Obj().Name()+" "+write(p.At(i).Constraint()))
		}
		parameters = "[" + strings.Join(each, ", ") + "]"
	}
	switch u := t.Underlying().(type) {
	case *types.Struct:
		add("type %s%s struct", o.Name(), parameters)
		for i := range u.NumFields() {
			if f := u.Field(i); f.Exported() {
				add("type %s struct, %s %s", o.Name(), f.Name(), write(f.Type()))
			}
		}
		if !types.Comparable(t) {
			add("type %s struct, not comparable", o.Name())
		}
	case *types.Interface:
		add("type %s%s interface", o.Name(), parameters)
		open := true
		for i := range u.NumMethods() {
			m := u.Method(i)
			open = open && m.Exported()
			if m.Exported() {
				add("type %s interface, %s%s", o.Name(), m.Name(), strings.TrimPrefix(write(m.Type()), "func"))
			}
		}
		if !open {
			add("type %s interface, unexported methods", o.Name())
		}
	default:
		add("type %s%s %s", o.Name(), parameters, write(u))
	}
	if types.IsInterface(t) {
		return
	}
	methods := types.NewMethodSet(types.NewPointer(t)) // promoted ones too: users call them
	for i := range methods.Len() {
		m := methods.At(i)
		if !m.Obj().Exported() {
			continue
		}
		receiver := "*" + o.Name()
		if types.NewMethodSet(t).Lookup(m.Obj().Pkg(), m.Obj().Name()) != nil {
			receiver = o.Name()
		}
		add("method (%s) %s%s", receiver, m.Obj().Name(), strings.TrimPrefix(write(m.Type()), "func"))
	}
}

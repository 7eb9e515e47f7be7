package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// Whatever users can call, set or implement has a line; nothing else has.
func TestDescribe(t *testing.T) {
	const source = `package p
const Limit = 1 << 10
var Err error
var hidden int
func F(a int, b ...string) (n int, err error) { return }
func helper() {}
type Number uint8
type Same = Number
type Options struct { Size int; hidden func() }
type base struct{}
func (*base) Close() error { return nil }
type Thing struct { base; X, y int }
func (Thing) Get() int { return 0 }
func (*Thing) Set(v int) {}
func (*Thing) own() {}
type Handler interface { On(data []byte); sealed() }
type Set[K comparable] struct { M map[K]bool }
`
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	var config types.Config
	pkg, err := config.Check(module+"/p", files, []*ast.File{parsed}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"p: const Limit untyped int = 1024",
		"p: func F(a int, b ...string) (n int, err error)",
		"p: method (*Thing) Close() error",
		"p: method (*Thing) Set(v int)",
		"p: method (Thing) Get() int",
		"p: type Handler interface",
		"p: type Handler interface, On(data []byte)",
		"p: type Handler interface, unexported methods",
		"p: type Number uint8",
		"p: type Options struct",
		"p: type Options struct, Size int",
		"p: type Options struct, not comparable",
		"p: type Same = Number",
		"p: type Set[K comparable] struct",
		"p: type Set struct, M map[K]bool",
		"p: type Set struct, not comparable",
		"p: type Thing struct",
		"p: type Thing struct, X int",
		"p: var Err error",
	}
	got := describe(pkg)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("differences from what is wanted:\n%s", strings.Join(differences(want, got), "\n"))
	}
}

func TestDifferences(t *testing.T) {
	got := differences([]string{"a", "b", "d"}, []string{"a", "c", "d"})
	if !slices.Equal(got, []string{"-b", "+c"}) {
		t.Errorf("got %q", got)
	}
}

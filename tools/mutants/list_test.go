package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"testing"
)

// Each mistake can still be made: what it changes is there, once, and what becomes of it is Go. So whoever changes the code
// hears of it at once, and not when somebody runs make mutants.
func TestMistakesCanBeMade(t *testing.T) {
	work := t.TempDir()
	names := make(map[string]bool)
	for _, m := range mutants {
		if names[m.name] {
			t.Errorf("%q is in the list twice", m.name)
		}
		names[m.name] = true
		if _, err := m.overlay(filepath.Join("..", ".."), work); err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		changed, err := os.ReadFile(filepath.Join(work, m.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, changed, 0); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one mistake, and the tests that must notice it.
type mutant struct {
	name    string // what goes wrong
	file    string // from the root of the repository
	was     string // occurs exactly once in the file
	becomes string
	tests   string // a package and a regular expression for names of its tests, as in "./frame TestLineSplit|TestLineAppend"
}

// simulator names the tests for mistakes that the random schedules of package session find.
const simulator = "./session TestSimulator"

// mutants returns the complete list.
func mutants() []mutant {
	return slices.Concat(inSession, inSessionToo, inLayers, inRecord, inEngine, inEngineToo, inProxyproto, inWheel, inFrame, inPool, inTLS, inWebsocket, inBench, inEchoserver, inObserve, inCluster, inTrials)
}

// pkg returns the directory of the file, which is the package whose code is wrong.
func (m *mutant) pkg() string { return path.Dir(m.file) }

// testPackage returns the package whose tests must notice, and the expression that selects them.
func (m *mutant) testPackage() (pkg, run string) {
	pkg, run, _ = strings.Cut(m.tests, " ")
	top, sub, subtests := strings.Cut(run, "/")
	run = "^(" + top + ")$"
	if subtests {
		run += "/" + sub
	}
	return pkg, run
}

// mutate returns the file with the mistake in it.
func (m *mutant) mutate(root string) ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, fmt.Errorf("%w; adapt tools/mutants", err)
	}
	if n := strings.Count(string(source), m.was); n != 1 {
		return nil, fmt.Errorf("%s has the following %d times, want once; adapt tools/mutants:\n%s", m.file, n, m.was)
	}
	return []byte(strings.Replace(string(source), m.was, m.becomes, 1)), nil
}

// overlay writes the changed file and the JSON file for go's -overlay to a folder, and returns the path of the JSON file.
func (m *mutant) overlay(root, work string) (string, error) {
	changed, err := m.mutate(root)
	if err != nil {
		return "", err
	}
	replacement := filepath.Join(work, filepath.Base(m.file))
	if err := os.WriteFile(replacement, changed, 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(root, m.file): replacement}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(work, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsExist returns an error if the mutant names no existing test.
func (m *mutant) testsExist(root string) error {
	pkg, run := m.testPackage()
	top, _, _ := strings.Cut(run, "/")
	pattern, err := regexp.Compile(top)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		return err
	}
	missing := strings.Split(strings.Trim(top, "^()$"), "|")
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, f := range testFunction.FindAllSubmatch(source, -1) {
			if pattern.Match(f[1]) {
				missing = slices.DeleteFunc(missing, func(name string) bool {
					return regexp.MustCompile("^(" + name + ")$").Match(f[1])
				})
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("package %s has no test %s; adapt tools/mutants", pkg, strings.Join(missing, ", "))
	}
	return nil
}

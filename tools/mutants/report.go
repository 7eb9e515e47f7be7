package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// tally has the counts of the verdicts in one package.
type tally struct{ made, noticed, explained int }

// report prints the tables, and returns an error if a mistake survives that is not explained.
func report(chosen []mutant, results []verdict) error {
	var packages, survivors []string
	sums := make(map[string]*tally)
	all := new(tally)
	for i, m := range chosen {
		sum := sums[m.pkg()]
		if sum == nil {
			sum = new(tally)
			sums[m.pkg()] = sum
			packages = append(packages, m.pkg())
		}
		for _, t := range []*tally{sum, all} {
			t.made++
			switch {
			case results[i].noticed:
				t.noticed++
			case explained[m.name] != "":
				t.explained++
			}
		}
		if !results[i].noticed && explained[m.name] == "" {
			survivors = append(survivors, m.file+": "+m.name)
		}
	}
	fmt.Printf("%s, %s, %s\n\n| package | mistakes | noticed | explained | survive |\n|---|---|---|---|---|\n",
		time.Now().Format(time.DateOnly), runtime.Version(), runtime.GOOS)
	for _, pkg := range packages {
		sums[pkg].row(pkg)
	}
	all.row("**all**")
	if all.made > 0 {
		fmt.Printf("\nScore: %d of %d, %.1f %%.\n", all.noticed, all.made, 100*float64(all.noticed)/float64(all.made))
	}
	if *list {
		fmt.Print("\n| mistake | file | noticed by |\n|---|---|---|\n")
		for i, m := range chosen {
			by := results[i].by
			if !results[i].noticed {
				by = "nobody: " + explained[m.name]
			}
			fmt.Printf("| %s | %s | %s |\n", m.name, m.file, by)
		}
	}
	for i, m := range chosen {
		if results[i].noticed && explained[m.name] != "" {
			survivors = append(survivors, m.file+": "+m.name+": noticed, though explained.go says that no test can: "+results[i].by)
		}
	}
	if survivors != nil {
		return fmt.Errorf("not as expected:\n\t%s", strings.Join(survivors, "\n\t"))
	}
	return nil
}

func (t *tally) row(pkg string) {
	fmt.Printf("| %s | %d | %d | %d | %d |\n", pkg, t.made, t.noticed, t.explained, t.made-t.noticed-t.explained)
}

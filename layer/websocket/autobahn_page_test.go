package websocket_test

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// page has a table of Autobahn's cases, which must say what the tests of this package have run.
const page = "../../docs/autobahn.md"

// groups are those of Autobahn|Testsuite (crossbario/autobahn-testsuite): 517 cases in all, with the number of cases in each.
var groups = []struct {
	id, name string
	cases    int
}{
	{"1.1", "text messages of 0 to 65,536 bytes", 8}, {"1.2", "binary messages", 8},
	{"2", "pings and pongs", 11}, {"3", "reserved bits", 7}, {"4.1", "reserved opcodes", 5}, {"4.2", "reserved opcodes of control frames", 5},
	{"5", "fragments", 20},
	{"6.1", "text in empty fragments", 3}, {"6.2", "text in fragments, cut within characters", 4}, {"6.3", "text that is not UTF-8, in fragments", 2},
	{"6.4", "text that is not UTF-8 fails fast", 4}, {"6.5", "valid text", 5}, {"6.6", "all prefixes of a text", 11},
	{"6.7", "first characters of each length", 4}, {"6.8", "first sequences of five and six bytes", 2}, {"6.9", "last characters of each length", 4},
	{"6.10", "last sequences of four to six bytes", 3}, {"6.11", "other boundaries", 5}, {"6.12", "unexpected continuation bytes", 8},
	{"6.13", "lonely start bytes", 5}, {"6.14", "the last byte is missing", 10}, {"6.15", "those in one message", 1}, {"6.16", "impossible bytes", 3},
	{"6.17", "overlong slash", 5}, {"6.18", "longest overlong sequences", 5}, {"6.19", "overlong NUL", 5}, {"6.20", "single surrogates", 7},
	{"6.21", "paired surrogates", 8}, {"6.22", "noncharacters, which are valid", 34}, {"6.23", "specials", 7},
	{"7.1", "close frames, and what follows them", 6}, {"7.3", "close frames of all lengths", 6}, {"7.5", "a reason that is not UTF-8", 1},
	{"7.7", "valid close codes", 13}, {"7.9", "invalid close codes", 9}, {"7.13", "close codes above 4999", 2},
	{"9.1", "text of 64 KiB to 16 MiB", 6}, {"9.2", "binary of 64 KiB to 16 MiB", 6}, {"9.3", "text of 4 MiB in fragments", 9},
	{"9.4", "binary of 4 MiB in fragments", 9}, {"9.5", "text of 1 MiB that comes in pieces", 6}, {"9.6", "binary of 1 MiB that comes in pieces", 6},
	{"9.7", "1,000 text messages", 6}, {"9.8", "1,000 binary messages", 6}, {"10.1", "automatic fragmentation", 1},
	{"12.1", "compressed: JSON", 18}, {"12.2", "compressed: random bytes", 18}, {"12.3", "compressed: prose", 18}, {"12.4", "compressed: HTML", 18},
	{"12.5", "compressed: one letter", 18},
	{"13.1", "the plain offer", 18}, {"13.2", "server_no_context_takeover", 18}, {"13.3", "a window of 8 bits", 18}, {"13.4", "a window of 15 bits", 18},
	{"13.5", "both, 8 bits", 18}, {"13.6", "both, 15 bits", 18}, {"13.7", "three offers", 18},
}

// ran are the cases that tests have run, and whether they have passed.
var ran = struct {
	sync.Mutex
	passed map[string]bool
}{passed: make(map[string]bool)}

// note notes how these cases end: when the test does.
func note(t *testing.T, cases ...string) {
	t.Cleanup(func() {
		ran.Lock()
		defer ran.Unlock()
		for _, id := range cases {
			before, known := ran.passed[id]
			ran.passed[id] = !t.Failed() && (before || !known)
		}
	})
}

var caseNumber = regexp.MustCompile(`^\d+(\.\d+)+$`)

// numbers returns the cases that the name of a subtest begins with: one, "2.4 and 2.6", or "5.3 to 5.5". "6.4, more" is none of Autobahn's.
func numbers(name string) (all []string) {
	words := append(strings.Fields(name), "", "", "")
	if !caseNumber.MatchString(words[0]) {
		return nil
	}
	all = words[:1]
	if words[1] != "and" && words[1] != "to" || !caseNumber.MatchString(words[2]) {
		return all
	}
	group, first, last := groupOf(words[0]), last(words[0]), last(words[2])
	if words[1] == "and" || groupOf(words[2]) != group {
		return []string{words[0], words[2]}
	}
	for n := first + 1; n <= last; n++ {
		all = append(all, fmt.Sprint(group, ".", n))
	}
	return all
}

// groupOf returns the group of a case, last its number in there.
func groupOf(id string) string { return id[:strings.LastIndexByte(id, '.')] }
func last(id string) int {
	n, _ := strconv.Atoi(id[strings.LastIndexByte(id, '.')+1:])
	return n
}

// row returns the line of the table for a group.
func row(id, name string, cases int) string {
	var passed []int
	for c, ok := range ran.passed {
		if groupOf(c) == id && ok {
			passed = append(passed, last(c))
		}
	}
	slices.Sort(passed)
	result, list := "pass", "none"
	if len(passed) != cases {
		result = fmt.Sprintf("pass; %d left out", cases-len(passed))
	}
	if len(passed) > 0 {
		list = ""
	}
	for i := 0; i < len(passed); {
		from := i
		for i++; i < len(passed) && passed[i] == passed[i-1]+1; i++ {
		}
		if list += fmt.Sprintf("%s.%d", id, passed[from]); i-1 > from {
			list += fmt.Sprintf(" to %s.%d", id, passed[i-1])
		}
		if i < len(passed) {
			list += ", "
		}
	}
	return fmt.Sprintf("| %s | %s | %d of %d | %s | %s |\n", id, name, len(passed), cases, list, result)
}

// checkPage returns what the page does not say of the cases that have run. It needs ran to be locked, or no test to run.
func checkPage() (wrong []string) {
	text, err := os.ReadFile(page)
	if err != nil {
		return []string{err.Error()}
	}
	known, all, passed := make(map[string]int), 0, 0
	want := ""
	for _, g := range groups {
		want += row(g.id, g.name, g.cases)
		known[g.id] = g.cases
		all += g.cases
	}
	for id, ok := range ran.passed {
		if n := last(id); n < 1 || n > known[groupOf(id)] {
			wrong = append(wrong, "Autobahn has no case "+id)
		} else if ok {
			passed++
		}
	}
	for _, part := range []string{want, fmt.Sprintf("%d of %d", passed, all)} {
		if !strings.Contains(string(text), part) {
			wrong = append(wrong, "it does not have:\n"+part)
		}
	}
	return wrong
}

// When all tests have run and passed, the page must say so. Under -short some sizes are left out, so it is not compared.
func TestMain(m *testing.M) {
	code := m.Run()
	whole := !testing.Short()
	for _, name := range []string{"run", "skip", "list", "fuzz"} {
		whole = whole && flag.Lookup("test."+name).Value.String() == ""
	}
	if code == 0 && whole {
		for _, line := range checkPage() {
			fmt.Fprintf(os.Stderr, "%s: %s\n", page, line)
			code = 1
		}
	}
	os.Exit(code)
}

// A check that cannot fail proves nothing.
func TestCaseNumbers(t *testing.T) {
	for name, want := range map[string]string{
		"2.1": "2.1", "2.4 and 2.6": "2.4 2.6", "5.3 to 5.5": "5.3 5.4 5.5", "4.1.1 with 0 bytes": "4.1.1", "7.7.1 1000 reason": "7.7.1",
		"6.4.1 and 6.4.3": "6.4.1 6.4.3", "6.4, a surrogate": "", "5, fragments": "", "7.7, 1012": "", "1 and 2": "",
	} {
		if got := strings.Join(numbers(name), " "); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	ran.Lock()
	defer ran.Unlock()
	before := ran.passed
	defer func() { ran.passed = before }()
	ran.passed = map[string]bool{"2.1": true, "2.2": true, "2.3": false, "2.11": true}
	if got, want := row("2", "x", 11), "| 2 | x | 3 of 11 | 2.1 to 2.2, 2.11 | pass; 8 left out |\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	ran.passed = map[string]bool{}
	if got, want := row("3", "x", 7), "| 3 | x | 0 of 7 | none | pass; 7 left out |\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if len(checkPage()) == 0 {
		t.Error("the page is right although nothing has run")
	}
}

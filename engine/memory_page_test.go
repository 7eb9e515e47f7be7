package engine

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/session"
)

// docs/memory.md names each field of a session and of its connection with its bytes, in their order, and the sums.
func TestMemoryPageIsTrue(t *testing.T) {
	text, err := os.ReadFile("../docs/memory.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (`\\w+`(?:, `\\w+`)*) \\| (\\d+) \\|")
	for heading, of := range map[string]reflect.Type{
		"## The session":    reflect.TypeFor[session.Session](),
		"## The connection": reflect.TypeFor[conn](),
	} {
		_, section, ok := strings.Cut(string(text), heading+"\n")
		if !ok {
			t.Fatalf("the page has no %q", heading)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		var got, want []string
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			for name := range strings.SplitSeq(m[1], ", ") {
				got = append(got, strings.Trim(name, "`"))
			}
			got = append(got, m[2])
		}
		// Fields that share a row are told with their sum.
		next, sum := 0, uintptr(0)
		for i := range of.NumField() {
			f := of.Field(i)
			want = append(want, f.Name)
			sum += f.Type.Size()
			if next = len(want); next < len(got) && !regexp.MustCompile(`^\d`).MatchString(got[next]) {
				continue
			}
			want, sum = append(want, fmt.Sprint(sum)), 0
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s:\n got %v\nwant %v", heading, got, want)
		}
		if total := fmt.Sprintf("%d bytes in all", of.Size()); !strings.Contains(section, total) {
			t.Errorf("%s does not say: %s", heading, total)
		}
	}
}

package descriptors

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The descriptors in use are counted where the system does not list them, and what looks like a list is not believed.
func TestCountDescriptors(t *testing.T) {
	limit, used, err := Count()
	if err != nil || limit < 1 || used < 3 {
		t.Fatal(limit, used, err)
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || uint64(limit) != min(uint64(r.Cur), 1<<30) {
		t.Errorf("the limit is %d, the system says %d, %v", limit, r.Cur, err)
	}
	before := countEach(limit)
	for range 20 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if n := countEach(limit); n != before+20 {
		t.Errorf("%d are counted, want %d", n, before+20)
	}
	if _, n, _ := Count(); n != used+20 || n != before+20 {
		t.Errorf("%d are listed, before %d, and %d were counted", n, used, before)
	}
	if n := countEach(2); n != 2 {
		t.Errorf("%d of the first two", n)
	}
	fake := t.TempDir() // as FreeBSD's is
	for _, name := range []string{"0", "1", "2"} {
		if err := os.WriteFile(filepath.Join(fake, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, ok := listed(fake); ok {
		t.Errorf("any folder is believed: %d", n)
	}
	if _, ok := listed(filepath.Join(fake, "none")); ok {
		t.Error("no folder is believed")
	}
}

package pool

import "testing"

// Memory counts the pooled array and, once append has moved B, the new array too.
func TestMemoryOfAGrownBuffer(t *testing.T) {
	b := GetSize(Page)
	defer b.Release()
	if n := b.Memory(); n != Page {
		t.Errorf("a page holds %d bytes, want %d", n, Page)
	}
	b.B = append(b.B, make([]byte, 100)...)
	if n := b.Memory(); n != Page {
		t.Errorf("with 100 bytes in it, a page holds %d bytes, want %d", n, Page)
	}
	b.B = append(b.B, make([]byte, Large)...)
	if n, want := b.Memory(), Page+cap(b.B); n != want {
		t.Errorf("grown to %d bytes it holds %d, want %d", cap(b.B), n, want)
	}
	large := GetSize(2 * Large)
	defer large.Release()
	if n := large.Memory(); n != 2*Large {
		t.Errorf("a buffer of %d bytes holds %d, want its size", 2*Large, n)
	}
}

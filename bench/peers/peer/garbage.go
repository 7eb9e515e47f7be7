package peer

import "time"

// An object is what an application's data look like to the garbage collector: small, with a pointer.
type object struct {
	body *[120]byte
}

const (
	objectBytes = 128 // of an object and its body
	liveBytes   = 64 << 20
	step        = 10 * time.Millisecond
)

// allocate keeps 64 MiB of objects, and replaces so many MiB of them a second. It does not return.
func allocate(mibPerSecond int) {
	live := make([]*object, liveBytes/objectBytes)
	replace := func(i int) { live[i%len(live)] = &object{new([120]byte)} }
	for i := range live {
		replace(i)
	}
	each := mibPerSecond << 20 / objectBytes * int(step/time.Millisecond) / 1000
	for i := 0; ; i += each {
		for k := range each {
			replace(i + k)
		}
		time.Sleep(step)
	}
}

//go:build browser

// The page in a real browser: go test -tags browser -run '^TestBrowser' ./examples/internal/game. It needs Chromium, so it stands behind a tag;
// .ci/run runs it. GAME_SHOTS=DIR keeps the screenshots.

package game

import (
	"context"
	"fmt"
	"image"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/internal/chromium"
)

// The page shows each of 500 dummies as a dot, and the dots move.
func TestBrowserShowsTheRoom(t *testing.T) {
	const players = 500
	s, err := Listen("127.0.0.1:0", "127.0.0.1:0", 0, here())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	moving, halt := context.WithCancel(ctx)
	ticking, swarming := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ticking)
		s.Tick(ctx)
	}()
	go func() {
		swarming <- new(Swarm).Run(moving, []string{s.Players.Addr().String()}, players, time.Second, time.Minute)
	}()
	defer func() {
		halt()
		stop()
		<-ticking
		_ = s.Close()
		<-s.Done()
	}()

	tab := chromium.Start(t).Profile().Open("http://"+s.Watchers.Addr().String(), 1200, 800)
	tab.Wait(fmt.Sprintf("document.querySelector('#players').textContent === '%d players'", players))
	tab.Eval("window.before = new Map([...dots].map(([id, d]) => [id, [d.x, d.y]])), undefined", nil)
	first := tab.Shoot("", "")
	tab.Wait("[...dots].filter(([id, d]) => Math.hypot(d.x - before.get(id)[0], d.y - before.get(id)[1]) > 1).length > 0.9 * dots.size")
	second := tab.Shoot("", "")
	if moved := changed(first, second); moved < 1000 {
		t.Errorf("%d pixels of the picture have changed", moved)
	}
	inside := false
	tab.Eval("[...dots.values()].every((d) => d.x >= 0 && d.x <= world && d.y >= 0 && d.y <= world)", &inside)
	if !inside {
		t.Error("a dot is outside of the room")
	}
	for _, size := range [][2]int{{1200, 800}, {390, 800}} {
		for _, scheme := range []string{chromium.Light, chromium.Dark} {
			tab.Look(scheme, size[0], size[1])
			tab.Wait(fmt.Sprintf("innerWidth === %d && canvas.width === Math.round(canvas.clientWidth * devicePixelRatio)", size[0]))
			fits := false
			if tab.Eval("document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight", &fits); !fits {
				t.Errorf("%d by %d: the page does not fit", size[0], size[1])
			}
			tab.Shoot(os.Getenv("GAME_SHOTS"), fmt.Sprintf("game-%d-%s", size[0], scheme))
		}
	}
	halt()
	if err := <-swarming; err != nil { // each dummy has seen all moves of the others
		t.Error(err)
	}
	if problems := tab.Problems(); len(problems) > 0 {
		t.Errorf("the console says: %s", strings.Join(problems, "\n"))
	}
}

// changed returns how many pixels of two pictures differ.
func changed(a, b image.Image) (n int) {
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if a.At(x, y) != b.At(x, y) {
				n++
			}
		}
	}
	return n
}

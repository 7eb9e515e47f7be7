package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/servercore-go/servercore/session"
)

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// Three nodes whose sessions come, join, leave, claim, send and go, all at once. In the end all nodes know the same, which is what there
// is, and each key has one holder at most.
func TestStress(t *testing.T) {
	nodes := three(t)
	steps := 400
	if testing.Short() {
		steps = 120
	}
	var running sync.WaitGroup
	left := make([][]*user, 3*2)
	for w := range left {
		n := nodes[w%3]
		random := rand.New(rand.NewPCG(uint64(w), 7))
		var mine []*user
		for range 3 {
			mine = append(mine, n.connect())
		}
		running.Go(func() {
			for range steps {
				u := mine[random.IntN(len(mine))]
				room, key := n.Room(fmt.Sprint("room", random.IntN(3))), fmt.Sprint("key", random.IntN(5))
				var err error
				switch random.IntN(12) {
				case 0, 1:
					err = room.JoinWith(u, []byte(key))
				case 2:
					room.Leave(u)
				case 3, 4, 5:
					err = room.Broadcast([]byte("x\n"))
				case 6, 7:
					err = n.Claim(ctx(t), key, u)
				case 8, 9:
					err = n.Send(ctx(t), key, []byte("y\n"))
				case 10:
					n.Release(key, u)
				case 11:
					if random.IntN(20) == 0 {
						u.Abort()
					}
				}
				if err != nil && !errors.Is(err, ErrReplaced) && !errors.Is(err, ErrNoHolder) && !errors.Is(err, session.ErrClosed) {
					t.Error(err)
				}
			}
			left[w] = mine
		})
	}
	running.Wait()
	eventually(t, "all know the same", func() bool {
		members, claims := 0, 0
		for _, n := range nodes {
			n.mu.Lock()
			for s, tr := range n.sessions {
				members += len(tr.rooms)
				claims += len(tr.claims)
				if s.Err() != nil {
					members = -1 << 20 // it is about to end
				}
			}
			n.mu.Unlock()
		}
		for _, n := range nodes {
			if s := n.Stats(); s.KnownMembers != members || s.KnownClaims != claims {
				return false
			}
		}
		return true
	})
	holders := make(map[string]NodeID)
	for _, n := range nodes {
		n.mu.Lock()
		for s, tr := range n.sessions {
			for key := range tr.claims {
				if holders[key] != 0 {
					t.Errorf("%s has two holders", key)
				}
				if holders[key] = n.id; s.Err() != nil {
					t.Errorf("%s is held by a session that has ended: %v", key, s.Err())
				}
			}
		}
		n.mu.Unlock()
	}
	for _, users := range left {
		for _, u := range users {
			u.Abort()
			await(t, u.ended, "it has ended")
			u.conn.Close()
		}
	}
	for _, n := range nodes {
		eventually(t, "nothing is left", func() bool { s := n.Stats(); return s.KnownClaims+s.KnownMembers+s.Sessions == 0 })
		if s := n.Stats(); s.Repeated+s.Dropped+s.Overflowed+s.Malformed != 0 {
			t.Errorf("%+v", s)
		}
	}
}

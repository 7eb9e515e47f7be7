package replica

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

var simulate = flag.Duration("simulate", 0, "how long to run the simulator on new seeds")

// The simulator runs two or three nodes on a network that loses, delays, repeats and reorders messages, splits and heals, while nodes are
// killed, stopped, cut off from the bus and started. Two things must hold.
//
//   - At any time: two nodes have granted claims of a key only if one of them did not have the other in its view when its claim was
//     granted.
//   - In the end, 5 s after the network has healed: each key has one holder at most, all nodes name the same one, all know the same
//     members, which are
//     those that there are, and no claim waits.
func TestSimulator(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 60
	}
	if *simulate > 0 {
		first := rand.Uint64()
		for began := time.Now(); time.Since(began) < *simulate; first++ {
			runSeed(t, first)
		}
		return
	}
	for seed := range seeds {
		runSeed(t, seed)
	}
}

func runSeed(t *testing.T, seed uint64) {
	t.Helper()
	s := &simulation{rand: rand.New(rand.NewPCG(seed, 1)), cut: make(map[[2]int]bool)}
	for i := range 2 + s.rand.IntN(2) {
		s.start(i)
	}
	s.lossy = s.rand.IntN(3) > 0
	for range 400 + s.rand.IntN(800) {
		s.act()
		s.step()
	}
	s.heal()
	for range 500 { // 5 s
		s.step()
	}
	s.converged()
	if len(s.faults) > 0 {
		t.Fatalf("seed %d: %s", seed, s.faults[0])
	}
}

// simulation is a cluster in virtual time.
type simulation struct {
	rand    *rand.Rand
	now     time.Duration
	nodes   []*simNode
	started uint64
	lossy   bool
	cut     map[[2]int]bool // pairs of nodes that do not hear each other
	flying  []flight
	faults  []string
}

// simNode is a node, and what its application knows.
type simNode struct {
	*Machine
	skew    time.Duration
	dead    bool
	stopped bool
	off     bool                       // the bus is gone for it
	granted map[string]uint64          // tickets
	knew    map[string]map[NodeID]bool // by key: who was in the view when it was granted
	waiting map[string]uint64
	members map[Member]string // and their rooms
}

// knows reports whether the other was in the view of n when it was granted the key.
func (n *simNode) knows(key string, other *simNode) bool {
	_, seen := n.knew[key][other.cfg.ID]
	return seen
}

// flight is a message under way.
type flight struct {
	at       time.Duration
	from, to int
	bytes    []byte
}

const tick = 10 * time.Millisecond

func (s *simulation) fault(format string, args ...any) {
	s.faults = append(s.faults, fmt.Sprintf("at %v: ", s.now)+fmt.Sprintf(format, args...))
}

func (s *simulation) start(i int) {
	s.started++
	n := &simNode{
		Machine: New(Config{ID: NodeID(s.started), Heartbeat: 500 * time.Millisecond, FailAfter: 3 * time.Second,
			Settle: 500 * time.Millisecond, PartSize: 100}, s.now),
		skew:    time.Duration(s.rand.IntN(20000)-10000) * time.Millisecond,
		granted: make(map[string]uint64), knew: make(map[string]map[NodeID]bool), waiting: make(map[string]uint64), members: make(map[Member]string),
	}
	if i == len(s.nodes) {
		s.nodes = append(s.nodes, n)
	} else {
		s.nodes[i] = n
	}
}

func (s *simulation) heal() {
	s.lossy = false
	clear(s.cut)
	for i, n := range s.nodes {
		if n.dead && s.rand.IntN(2) == 0 {
			s.start(i)
			continue
		}
		n.stopped = false
		if n.off {
			n.off = false
			n.SetUp(true, s.now)
		}
	}
}

// act does one thing that an application, or misfortune, may do.
func (s *simulation) act() {
	i := s.rand.IntN(len(s.nodes))
	n := s.nodes[i]
	if n.dead || n.stopped {
		if s.rand.IntN(100) == 0 {
			if n.dead {
				s.start(i)
			}
			n.stopped = false
		}
		return
	}
	key := fmt.Sprint("key", s.rand.IntN(4))
	switch s.rand.IntN(40) {
	case 0, 1, 2, 3, 4:
		if n.off {
			return // the caller gets ErrUnavailable
		}
		wall := uint64((s.now + n.skew + 20*time.Second) / time.Millisecond)
		n.waiting[key] = n.Claim(key, wall, s.now)
	case 5, 6:
		if ticket := cmp.Or(n.granted[key], n.waiting[key]); ticket != 0 {
			n.Release(key, ticket)
			delete(n.granted, key)
			delete(n.waiting, key)
		}
	case 7, 8, 9:
		m, room := Member{n.cfg.ID, s.rand.Uint64N(5)}, fmt.Sprint("room", s.rand.IntN(3))
		if n.members[m] == "" {
			n.members[m] = room
			n.Join(room, m.Session, []byte(room))
		}
	case 10, 11:
		m := Member{n.cfg.ID, s.rand.Uint64N(5)}
		n.Leave(n.members[m], m.Session) // it may be in none
		delete(n.members, m)
	case 12:
		s.misfortune(i, n)
	}
}

func (s *simulation) misfortune(i int, n *simNode) {
	switch s.rand.IntN(8) {
	case 0:
		n.dead = true
	case 1:
		n.stopped = true
	case 2:
		n.End()
		s.deliver(i)
		n.dead = true
	case 3:
		n.off = !n.off
		n.SetUp(!n.off, s.now)
	case 4, 5:
		clear(s.cut)
	default:
		j := s.rand.IntN(len(s.nodes))
		s.cut[[2]int{min(i, j), max(i, j)}] = true
	}
}

// step lets a tick pass.
func (s *simulation) step() {
	s.now += tick
	slices.SortStableFunc(s.flying, func(a, b flight) int { return cmp.Compare(a.at, b.at) })
	var later []flight
	arriving := s.flying
	s.flying = nil
	for _, f := range arriving {
		to := s.nodes[f.to]
		switch {
		case f.at > s.now || to.stopped && !to.dead: // a stopped node reads later
			later = append(later, f)
			continue
		case to.dead || to.off || s.cut[[2]int{min(f.from, f.to), max(f.from, f.to)}]:
			continue
		}
		msg, err := Decode(f.bytes)
		if err != nil {
			s.fault("a message is not understood: %v", err)
			continue
		}
		to.Receive(msg, s.now)
		s.deliver(f.to)
	}
	s.flying = append(later, s.flying...)
	for i, n := range s.nodes {
		if !n.dead && !n.stopped {
			n.Tick(s.now)
			s.deliver(i)
		}
	}
}

// deliver looks at a node's events, and puts its messages on the way.
func (s *simulation) deliver(i int) {
	n := s.nodes[i]
	for _, e := range n.Events() {
		switch e.What {
		case Granted:
			if n.waiting[e.Key] != e.Ticket {
				continue // another claim of this node has followed
			}
			n.knew[e.Key] = n.Peers()
			for _, other := range s.nodes {
				if n.knows(e.Key, other) && other.knows(e.Key, n) && !other.dead && other.granted[e.Key] != 0 {
					s.fault("%s is granted to %v while %v has it", e.Key, n.cfg.ID, other.cfg.ID)
				}
			}
			delete(n.waiting, e.Key)
			n.granted[e.Key] = e.Ticket
		case Replaced, Failed:
			if n.waiting[e.Key] == e.Ticket {
				delete(n.waiting, e.Key)
			}
			if n.granted[e.Key] == e.Ticket {
				delete(n.granted, e.Key)
			}
		}
	}
	for _, m := range n.Messages() {
		if n.off {
			continue
		}
		b := m.Append(nil)
		for j, to := range s.nodes {
			if j == i || m.To != 0 && m.To != to.cfg.ID {
				continue
			}
			for copies := s.copies(); copies > 0; copies-- {
				s.flying = append(s.flying, flight{s.now + s.delay(), i, j, b})
			}
		}
	}
}

func (s *simulation) copies() int {
	if s.lossy {
		switch s.rand.IntN(20) {
		case 0, 1:
			return 0
		case 2:
			return 2
		}
	}
	return 1
}

func (s *simulation) delay() time.Duration {
	if s.lossy && s.rand.IntN(10) == 0 {
		return time.Duration(s.rand.IntN(2000)) * time.Millisecond
	}
	return tick // in order
}

// converged checks what must hold in the end.
func (s *simulation) converged() {
	holders := make(map[string]NodeID)
	members := make(map[string]map[Member][]byte)
	for room := range 3 {
		members[fmt.Sprint("room", room)] = make(map[Member][]byte)
	}
	for _, n := range s.nodes {
		if n.dead {
			continue
		}
		if len(n.waiting) > 0 || len(n.pending) > 0 {
			s.fault("%v: claims wait: %v, %d", n.cfg.ID, n.waiting, len(n.pending))
		}
		for key := range n.granted {
			if other := holders[key]; other != 0 {
				s.fault("%s has two holders: %v and %v", key, other, n.cfg.ID)
			}
			holders[key] = n.cfg.ID
		}
		for m, room := range n.members {
			members[room][m] = []byte(room)
		}
	}
	for _, n := range s.nodes {
		if n.dead {
			continue
		}
		for k := range 4 {
			key := fmt.Sprint("key", k)
			if h := n.Holder(key).Node; h != holders[key] {
				s.fault("%v says that %s is held by %v, and it is %v", n.cfg.ID, key, h, holders[key])
			}
		}
		for room, want := range members {
			got := make(map[Member][]byte)
			if n.Members(room, got); !reflect.DeepEqual(got, want) {
				s.fault("%v knows of %s: %v, want %v", n.cfg.ID, room, got, want)
			}
			if n.Len(room) != len(want) {
				s.fault("Len is %d", n.Len(room))
			}
		}
	}
}

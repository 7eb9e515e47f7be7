package reactor

// Waking. Any goroutine may have a connection, or the loop itself, looked at soon. Connections wait in the mailbox, a list that is
// linked through them. A loop at rest is woken once, however many come (R3).

// Wake has the loop make a turn. It returns false if a turn is on its way already: that turn sees what was published before Wake (R3). Any
// goroutine.
func (l *Loop[C]) Wake() bool {
	// The turn clears woken before it looks at anything: a goroutine that finds it set has published before that look.
	if l.woken.Swap(true) {
		return false
	}
	l.signal()
	return true
}

// signal interrupts the loop if it waits.
func (l *Loop[C]) signal() {
	l.wakeMu.Lock()
	defer l.wakeMu.Unlock()
	if !l.stopped {
		l.waker.signal()
	}
}

// Ping returns a channel that the loop's next turn closes. There is one for all callers before that turn. Any goroutine.
func (l *Loop[C]) Ping() <-chan struct{} {
	answer := make(chan struct{})
	for !l.pong.CompareAndSwap(nil, &answer) {
		if asked := l.pong.Load(); asked != nil {
			answer = *asked
			break
		}
	}
	l.Wake()
	return answer
}

// answerPings is the turn's part of Ping.
func (l *Loop[C]) answerPings() {
	if l.pong.Load() != nil {
		close(*l.pong.Swap(nil))
	}
}

// Wake has OnWake called soon, on the goroutine that serves the connection. The owner calls Wake at most once until OnWake begins. Any goroutine.
func (c *Conn[C]) Wake() {
	if s := c.executor.strand; s != nil {
		s.signal(dueWake)
		return
	}
	c.executor.loop.post(c, c)
}

// Batch wakes several connections of one loop at the cost of one. From Add to Batch.Wake the caller is the only one that may wake these
// connections, as with Conn.Wake. The zero value is empty.
type Batch[C any] struct{ last, first *Conn[C] }

// Add adds a connection that the caller may Wake. One that is offloaded is woken at once, by itself.
func (b *Batch[C]) Add(c *Conn[C]) {
	switch {
	case c.executor.strand != nil:
		c.Wake()
		return
	case b.last == nil:
		b.first = c
	default:
		c.next = b.last
	}
	b.last = c
}

// Wake is Conn.Wake for each of them. Any goroutine.
func (b *Batch[C]) Wake() {
	if b.last != nil {
		b.last.executor.loop.post(b.last, b.first)
	}
}

// post puts a chain of connections on the mailbox, from last to first as the mailbox has them. The first chain in an empty
// mailbox wakes the loop.
func (l *Loop[C]) post(last, first *Conn[C]) {
	for {
		head := l.mailbox.Load()
		first.next = head
		if l.mailbox.CompareAndSwap(head, last) {
			if head == nil && l.Wake() {
				l.wakeUps.Add(1)
			}
			return
		}
	}
}

// takeMailbox empties the mailbox and returns the connections in the order in which they came.
func (l *Loop[C]) takeMailbox() (first *Conn[C]) {
	for head := l.mailbox.Swap(nil); head != nil; {
		head, head.next, first = head.next, first, head
	}
	return first
}

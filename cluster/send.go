package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/servercore-go/servercore/cluster/internal/replica"
	"github.com/servercore-go/servercore/session"
)

// maxTries is how many nodes a Send asks while a key moves.
const maxTries = 8

// Send is a Send of p to the session that holds the key, wherever it is. nil means that the session has accepted it: once. If the key moves
// meanwhile, p goes to the session that has it, or Send fails.
//
// Errors: ErrNoHolder if nobody holds the key. ErrUnavailable if the other node cannot be asked; if it was asked and does not answer within
// SendTimeout, goes down, or ctx ends, the error says so, and p may have been delivered, or be delivered yet. session.ErrSendLimit if the
// session's queue is full; ErrTooLarge, ErrClosed. An error for ctx matches ctx's too. It is never delivered twice: what may have been
// delivered is not tried again.
//
// To a session of this node that holds the key it does not wait. To others, and while the Claim of the key has not returned, it does, so call
// it on a goroutine of your own where that may be. p is the caller's again when it returns. Order is kept for calls that follow one another,
// but for those that have failed so.
func (c *Cluster) Send(ctx context.Context, key string, p []byte) error {
	if len(key) > MaxKey {
		return fmt.Errorf("%w: a key has %d bytes at most", ErrTooLarge, MaxKey)
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.SendTimeout)
	defer cancel()
	var last, hint replica.Stamp
	for range maxTries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: nothing was delivered: %w", ErrUnavailable, err)
		}
		c.mu.Lock()
		at := c.machine.Holder(key)
		closed, gone := c.closed, c.gone[at.Node]
		if at.Less(hint) {
			if known := c.gone[hint.Node]; known != nil || hint.Node == c.id {
				at, gone = hint, known
			}
		}
		c.mu.Unlock()
		switch {
		case closed:
			return ErrClosed
		case at.Node == c.id:
			wait, err := c.hand(key, p)
			if wait == nil && !errors.Is(err, ErrNoHolder) {
				return err
			}
			if wait != nil {
				select {
				case <-wait.decided:
					continue
				case <-ctx.Done():
					c.giveUp(wait)
					return fmt.Errorf("%w: the claim was not decided; nothing was delivered: %w", ErrUnavailable, ctx.Err())
				}
			}
		case at.Node == 0 || at == last: // that one has said no
			if err := c.check(); err != nil {
				return err
			}
			return ErrNoHolder
		default:
			var err error
			if hint, err = c.ask(ctx, at.Node, gone, key, p); !errors.Is(err, ErrNoHolder) {
				return err
			}
		}
		last = at
	}
	return fmt.Errorf("%w: it moves too often", ErrNoHolder)
}

// ask gives p to another node. ErrNoHolder means that it was not delivered, and the stamp is the holder which that node knows.
func (c *Cluster) ask(ctx context.Context, node NodeID, gone <-chan struct{}, key string, p []byte) (replica.Stamp, error) {
	var none replica.Stamp
	if err := c.check(); err != nil {
		return none, err
	}
	if most := int(c.payload.Load()) - len(key) - 2; len(p) > most {
		return none, fmt.Errorf("%w: %d bytes, and the bus takes %d", ErrTooLarge, len(p), most)
	}
	request := binary.AppendUvarint(make([]byte, 0, len(p)+len(key)+2), uint64(len(key)))
	request = append(append(request, key...), p...)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return none, ErrClosed
	}
	c.running.Add(1) // under mu: Close waits for these only after it has set closed
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answered := make(chan asked, 1)
	go func() { // NATS waits for a write that is stuck, whatever ctx says
		defer c.running.Done()
		reply, err := c.bus.RequestWithContext(ctx, c.prefix+".s."+node.String(), request)
		answered <- asked{reply, err}
	}()
	var why error
	select {
	case a := <-answered:
		switch {
		case a.err == nil:
			c.stats.sent.Add(1)
			return parseAnswer(a.reply.Data)
		case errors.Is(a.err, nats.ErrNoResponders):
			return none, fmt.Errorf("%w: the node of the holder is not there; nothing was delivered", ErrUnavailable)
		case errors.Is(a.err, nats.ErrReconnectBufExceeded):
			return none, fmt.Errorf("%w: nothing was delivered: %w", ErrUnavailable, a.err)
		}
		if why = a.err; c.isClosed() {
			why = ErrClosed
		}
	case <-c.done:
		why = ErrClosed
	case <-gone:
		why = errNodeGone
	case <-ctx.Done():
		why = ctx.Err()
	}
	return none, fmt.Errorf("%w: no answer; the message may have been delivered: %w", ErrUnavailable, why)
}

// asked is what comes of a request.
type asked struct {
	reply *nats.Msg
	err   error
}

var errNodeGone = errors.New("cluster: the node is down")

// Answers to a Send: the first byte.
const (
	answerOK byte = iota
	answerNoHolder
	answerFull
	answerFailed
	answerWaiting
)

// answer is what err is for the node that has asked.
func (c *Cluster) answer(key string, err error) []byte {
	switch {
	case err == nil:
		return []byte{answerOK}
	case errors.Is(err, ErrNoHolder):
		c.mu.Lock()
		s := c.machine.Holder(key)
		c.mu.Unlock()
		return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{answerNoHolder}, s.Clock), uint64(s.Node))
	case errors.Is(err, session.ErrSendLimit):
		return []byte{answerFull}
	case errors.Is(err, errWaiting):
		return []byte{answerWaiting}
	}
	return append([]byte{answerFailed}, err.Error()...)
}

func parseAnswer(b []byte) (s replica.Stamp, err error) {
	switch {
	case len(b) == 1 && b[0] == answerOK:
		return s, nil
	case len(b) == 17 && b[0] == answerNoHolder:
		return replica.Stamp{Clock: binary.BigEndian.Uint64(b[1:]), Node: NodeID(binary.BigEndian.Uint64(b[9:]))}, ErrNoHolder
	case len(b) == 1 && b[0] == answerFull:
		return s, session.ErrSendLimit
	case len(b) == 1 && b[0] == answerWaiting:
		return s, errWaiting
	case len(b) > 0 && b[0] == answerFailed:
		return s, fmt.Errorf("cluster: the session has not taken it: %s", b[1:])
	}
	return s, fmt.Errorf("%w: an answer is malformed", ErrUnavailable)
}

// maxAsked is how many Sends of other nodes may wait until they are looked at. They have QueueLimit bytes at most.
const maxAsked = 4096

// readAsked is the goroutine that takes the Sends of other nodes.
func (c *Cluster) readAsked() {
	for {
		m, err := c.asked.NextMsgWithContext(context.Background()) // until Close ends the connection
		switch {
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // some did not fit: busError counts them
		case err != nil:
			return
		}
		n, size := binary.Uvarint(m.Data)
		if size <= 0 || n > uint64(len(m.Data)-size) {
			c.stats.malformed.Add(1)
			continue
		}
		key, p := string(m.Data[size:size+int(n)]), m.Data[size+int(n):]
		c.serve(m, key, p)
	}
}

// serve answers one Send, now or when the claim is granted.
func (c *Cluster) serve(m *nats.Msg, key string, p []byte) {
	wait, err := c.hand(key, p)
	if wait == nil {
		_ = m.Respond(c.answer(key, err))
		return
	}
	c.running.Go(func() { // as many as maxWaiting for each claim
		select {
		case <-wait.decided:
			c.serve(m, key, p)
		case <-c.done:
		}
	})
}

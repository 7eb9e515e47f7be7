package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Ping returns nil as soon as every event loop has answered, which takes as long as the longest callback that runs on one;
// or, when ctx ends before, an error that names a loop that has not and matches ctx's. It is for watchdogs and health
// checks. On an engine that does not run it returns an error: Err's, if it has ended. Any goroutine, but not a callback
// on a loop, for that loop could not answer.
func (e *Engine) Ping(ctx context.Context) error {
	loops := e.running()
	answers := make(chan int, len(loops)) // nobody waits to answer
	for _, l := range loops {
		l.welcomeMu.Lock()
		l.pings = append(l.pings, answers)
		l.welcomeMu.Unlock()
		l.wake()
	}
	answered := make([]bool, len(loops))
	for slices.Contains(answered, false) {
		select {
		case i := <-answers:
			answered[i] = true
		case <-e.done:
			return e.Err()
		case <-ctx.Done():
			return fmt.Errorf("engine: event loop %d has not answered: %w", slices.Index(answered, false), ctx.Err())
		}
	}
	if len(loops) > 0 {
		return nil
	}
	if err := e.Err(); err != nil {
		return err
	}
	return errors.New("engine: Start comes before Ping")
}

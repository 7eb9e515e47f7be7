package engine

import (
	"context"
	"errors"
	"fmt"
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
	waiting := make(map[int]bool, len(loops))
	for i := range loops {
		waiting[i] = true
	}
	for len(waiting) > 0 {
		select {
		case i := <-answers:
			delete(waiting, i)
		case <-e.done:
			return e.Err()
		case <-ctx.Done():
			for i := range waiting {
				return fmt.Errorf("engine: event loop %d has not answered: %w", i, ctx.Err())
			}
		}
	}
	if len(loops) == 0 {
		if err := e.Err(); err != nil {
			return err
		}
		return errors.New("engine: Start comes before Ping")
	}
	return nil
}

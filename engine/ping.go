package engine

import (
	"context"
	"errors"
	"fmt"
)

// Ping returns nil as soon as every event loop has answered, which takes as long as the longest callback that runs on one;
// or, when ctx ends before, an error that names a loop that has not and matches ctx's. It is for watchdogs and health
// checks; a loop that does not answer costs nothing, however often it is asked. On an engine that does not run it returns an
// error: Err's, if it has ended. Any goroutine, workers of Offload included; in a callback on a loop, which could not answer, it
// returns an error that matches ErrInCallback at once.
func (e *Engine) Ping(ctx context.Context) error {
	loops := e.running()
	if is := goroutineNames.Own(); is.Loop {
		if err := e.inCallback("Ping", "its loop cannot answer before the callback returns", false); err != nil {
			return err
		}
	}
	answers := make([]<-chan struct{}, len(loops))
	for i, l := range loops { // first all of them, so that the slowest decides how long it takes
		answers[i] = l.Ping()
	}
	for i, answer := range answers {
		select {
		case <-answer:
		case <-e.done:
			return e.Err()
		case <-ctx.Done():
			return fmt.Errorf("engine: event loop %d has not answered: %w", i, ctx.Err())
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

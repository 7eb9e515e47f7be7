package main

import (
	"context"
	"testing"
	"time"
)

// Dummies on three nodes see every move of all, once and in order.
func TestGame(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := play(ctx, 60, 200*time.Millisecond, time.Second); err != nil {
		t.Fatal(err)
	}
}

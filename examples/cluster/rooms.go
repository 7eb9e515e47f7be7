package main

import (
	"context"
	"errors"

	"github.com/servercore-go/servercore/cluster"
	"github.com/servercore-go/servercore/examples/internal/chat"
)

// rooms gives the chat its rooms and names: Claim, Release and Send are the cluster's own.
type rooms struct {
	*cluster.Cluster
	node string
}

func (r rooms) Node() string { return r.node }

func (r rooms) Room(name string) chat.Room { return room{r.Cluster.Room(name)} }

// Replaced reports whether a session has ended because another one has taken its name.
func (r rooms) Replaced(reason error) bool { return errors.Is(reason, cluster.ErrReplaced) }

// room is the cluster's, with the names of those who are in it.
type room struct{ *cluster.Room }

func (r room) Names(ctx context.Context) (names []string, err error) {
	members, err := r.Members(ctx)
	for _, m := range members {
		names = append(names, m.Value)
	}
	return names, err
}

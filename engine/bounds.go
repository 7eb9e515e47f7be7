package engine

import (
	"fmt"

	"github.com/servercore-go/servercore/internal/descriptors"
)

// setBounds derives the limits that depend on the process's descriptors. A MaxSessions that they do not allow is lowered, with a
// warning, as Redis does: the server serves as many as it can, and refuses the others in order. It is an error if that is none.
func (e *Engine) setBounds() error {
	limit, used, err := descriptors.Count()
	if err != nil {
		return fmt.Errorf("engine: descriptor limit: %w", err)
	}
	floor, ceiling := 8+e.options.Loops, 64+e.options.Loops
	reserve := min(max(limit/10, floor), ceiling)
	asked, most := e.options.MaxSessions, limit-used-reserve
	switch {
	case asked < 0:
		e.maxSessions = asked
	case most < 1:
		return fmt.Errorf("engine: Options.MaxSessions: the descriptor limit of %d leaves no room for sessions (%d in use, %d reserved); %s",
			limit, used, reserve, descriptors.RaiseLimit)
	case asked == 0:
		e.maxSessions = most
	case asked <= most:
		e.maxSessions = asked
	default:
		e.maxSessions = most
		e.log.Warn("Options.MaxSessions is more than the descriptor limit allows and was lowered; "+descriptors.RaiseLimit,
			"asked", asked, "max", most, "limit", limit, "in_use", used, "reserve", reserve)
	}
	return nil
}

package chromium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// params are the named parameters of a command.
type params map[string]any

// devtools is the connection: commands and answers are text messages of JSON. Events are kept, as far as they tell of problems.
type devtools struct {
	session.Session
	engine *engine.Engine

	mu       sync.Mutex
	last     int // the number of the last command
	answers  map[int]chan answer
	problems map[string][]string // of each session, what its console and its log say
	ended    error
}

// answer is a message of the browser: what a command has come to, or an event.
type answer struct {
	ID        int             `json:"id"`
	SessionID string          `json:"sessionId"`
	Method    string          `json:"method"`
	Params    json.RawMessage `json:"params"`
	Result    json.RawMessage `json:"result"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// maxMessage is the most that an answer may have, in bytes: a screenshot, in base64.
const maxMessage = 64 << 20

func dial(ctx context.Context, e *engine.Engine, host, path string) (*devtools, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	d := &devtools{engine: e, answers: make(map[int]chan answer), problems: make(map[string][]string)}
	_, err := e.Dial(ctx, "tcp", host, func() session.Handler { return d },
		engine.WebSocket(engine.WebSocketOptions{Path: path, Text: true, MaxMessage: maxMessage}))
	return d, err
}

// OnText gets a message of the browser.
func (d *devtools) OnText(p []byte) {
	var a answer
	if err := json.Unmarshal(p, &a); err != nil {
		d.DisconnectWith(err)
		return
	}
	if a.Method == "Page.javascriptDialogOpening" { // the page would answer nothing until somebody has closed it
		d.accept(a.SessionID)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if problem := a.problem(); problem != "" {
		d.problems[a.SessionID] = append(d.problems[a.SessionID], problem)
	}
	if c := d.answers[a.ID]; c != nil {
		delete(d.answers, a.ID)
		c <- a
	}
}

// accept closes the dialog of a page. Nobody waits for the answer.
func (d *devtools) accept(session string) {
	d.mu.Lock()
	d.last++
	id := d.last
	d.mu.Unlock()
	text, err := json.Marshal(map[string]any{"id": id, "method": "Page.handleJavaScriptDialog", "params": params{"accept": true}, "sessionId": session})
	if err == nil {
		err = d.Send(text)
	}
	if err != nil {
		d.DisconnectWith(err)
	}
}

// OnDisconnected fails the commands that are under way.
func (d *devtools) OnDisconnected(net.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = fmt.Errorf("the connection to chromium has ended: %w", d.Err())
	for id, c := range d.answers {
		delete(d.answers, id)
		close(c)
	}
}

// problem returns what an event says that a page should not, "" for nothing.
func (a *answer) problem() string {
	var p struct {
		Type, Message    string
		Args             json.RawMessage
		Entry            struct{ Level, Text, URL string }
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	switch a.Method {
	case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Page.javascriptDialogOpening":
		if err := json.Unmarshal(a.Params, &p); err != nil {
			return err.Error()
		}
	}
	switch {
	case a.Method == "Page.javascriptDialogOpening":
		return "a dialog stops the page: " + p.Type + ": " + p.Message
	case a.Method == "Runtime.exceptionThrown":
		return p.ExceptionDetails.Text + " " + p.ExceptionDetails.Exception.Description
	case a.Method == "Runtime.consoleAPICalled" && (p.Type == "error" || p.Type == "warning" || p.Type == "assert"):
		return p.Type + ": " + string(p.Args)
	case a.Method == "Log.entryAdded" && (p.Entry.Level == "error" || p.Entry.Level == "warning"):
		return p.Entry.Text + " " + p.Entry.URL
	}
	return ""
}

// call sends a command, waits for its answer, and decodes the result unless result is nil.
func (d *devtools) call(session, method string, p params, result any) error {
	c := make(chan answer, 1)
	d.mu.Lock()
	err := d.ended
	d.last++
	id := d.last
	d.answers[id] = c
	d.mu.Unlock()
	if err != nil {
		return err
	}
	command := map[string]any{"id": id, "method": method}
	if p != nil {
		command["params"] = p
	}
	if session != "" {
		command["sessionId"] = session
	}
	text, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if err := d.Send(text); err != nil {
		return err
	}
	select {
	case a, open := <-c:
		switch {
		case !open:
			return errors.New("chromium has ended")
		case a.Error != nil:
			return errors.New(a.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(a.Result, result)
	case <-time.After(Patience):
		return errLate
	}
}

// close asks the browser to end, and closes the connection.
func (d *devtools) close() {
	_ = d.call("", "Browser.close", nil, nil) // it may end before it answers
	_ = d.engine.Close()
	<-d.engine.Done()
}

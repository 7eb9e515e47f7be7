package main

// explained has the mistakes that no test notices, by name, with the reason: the program does the same with them, or there is no test
// yet. They are still made, and it is an error if a test notices one.
var explained = map[string]string{
	"a buffer comes with the bytes of its last holder": "bytebufferpool empties what it is given back, so the buffer that is cut from it is empty anyway",

	"a new process that is another program lives on":           "no test yet: one that closes the channel and goes on; one that keeps it is tested",
	"a service manager that does not read holds the server up": "no test yet: 16 messages have to wait before anything does, and each is given up after a second",
	"a process that takes over late is not told to stop":       "no test yet: a signal has to come between the end of one process and the word of the next",
}

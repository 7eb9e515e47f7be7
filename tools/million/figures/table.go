package figures

// Compare orders results: by phase, by number of connections, by settings of the server.
func Compare(a, b *Result) int { return 0 }

// Tables returns the tables.
func Tables(all []*Result) string { return "" }

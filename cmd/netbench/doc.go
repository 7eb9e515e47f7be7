// Command netbench loads a TCP server, verifies every byte that comes back, and reports throughput, latency and cost.
// It is a thin layer over package bench: flags, signals, files, exit codes. Run it with -h for the commands, and
// netbench COMMAND -h for examples and flags. Without arguments it starts a server of its own, loads it in seven
// ways for ten seconds together, and writes a page with charts.
//
// Exit codes: 0 no errors; 1 could not run; 2 bad flags; 3 the run met errors, which its first line counts.
//
// # Flags of other tools
//
//	wrk2        tcpkali             NetCoreServer      netbench
//	-c N        -c N                -c N               -conns N
//	-t N        -w N                -t N               -threads N
//	-d TIME     -T TIME             -z SECONDS         -duration TIME
//	-R RATE     -r RATE (per conn)                     rate -rate RATE (all connections)
//	            -m STRING                              the bytes are made by -seed
//	                                -s BYTES           -size BYTES
//	                                -m N (window)      echo -depth N
//	            --connect-rate N                       ramp -connect-rate N
//	            --connect-timeout                      -timeout TIME
//	            --source-ip ADDR                       -sources N
//	            --latency-connect                      always reported
//	            --ssl                                  -tls
//	            --ws                                   -ws PATH
//	-L, -U                                             always reported: planned (corrected), reply (not corrected)
//	HOST:PORT   HOST:PORT           -a HOST -p PORT    -addr HOST:PORT
//
// The rate of wrk2 is that of all connections together, as here; the rate of tcpkali is that of each connection.
// NetCoreServer's clients report the elapsed time divided by the number of messages as latency. netbench has no such
// figure.
package main

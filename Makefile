# Every target is a plain go command that can be typed by hand; .ci/run is what a change must pass.

# go.work ties the modules together, and finds the tools of tools/go.mod.
TOOL := go tool
OURS := ./... ./observe/... ./cmd/echoserver/...
ALL  := work

.PHONY: measure-observe million all check fmt vet staticcheck imports api test race trials cluster-trials soak bench perf mutants mutants-sample simulate measure-cluster crowd deploy

all: check

check: fmt vet staticcheck race # the direction of imports is one of the tests

fmt:
	@files=$$(gofmt -l .); test -z "$$files" || { echo "run gofmt -w on:"; echo "$$files"; exit 1; }

vet:
	GOOS=linux go vet $(OURS)
	GOOS=darwin go vet $(OURS)
	GOOS=freebsd go vet $(OURS)

staticcheck:
	$(TOOL) staticcheck $(OURS) ./cluster/... ./examples/cluster/...

imports:
	go test -run '^TestImport' .

# make api   docs/api.txt anew: the public surface, which .ci/run compares with the code
api:
	go -C tools run ./api

test:
	go test $(ALL)

race:
	go test -race -shuffle=on $(OURS)

# make mutants               known mistakes in every package, one at a time, and whether a test notices each: an hour
# make mutants ONLY=frame/   those whose "file: name" the expression matches
# make mutants-sample N=12   as many of them at random, as .ci/run does; SEED=17 chooses the same ones again
ONLY ?=
N    ?= 12
SEED ?= 0
mutants:
	go -C tools run ./mutants -list -run '$(ONLY)'

mutants-sample:
	go -C tools run ./mutants -sample $(N) -seed $(SEED)

# make simulate FOR=1h   the simulators, of nodes and of sessions, on new seeds, each for as long
FOR ?= 1h
simulate:
	go test ./cluster/internal/replica -run '^TestSimulator$$' -timeout 0 -simulate $(FOR)
	go test -p 1 ./session ./layer -run '^TestSimulator$$' -v -timeout 0 -simulate $(FOR)

# make soak FOR=1h       T41: a mix of faults for as long, the slopes of what must not grow, and .soak/soak.svg with the curves
soak:
	mkdir -p .soak
	go test -count=1 -timeout 0 -v ./trials -run T41 -scale 0.1 -soak $(FOR) -samples $(CURDIR)/.soak/soak.csv; \
		code=$$?; go -C tools run ./soakplot $(CURDIR)/.soak/soak.csv $(CURDIR)/.soak/soak.svg && exit $$code

# make measure-observe   what it costs to look at a server: CPU per message while nobody looks (twice: the noise), with scrapes, and with a recording to
#                        /dev/shm; /sessions of 18,000 sessions. Six minutes.
measure-observe:
	go run ./observe/measure

# make million                  20,000 sessions in an emulated machine: memory, time, and one message to all; docs/million.md has the rest
# make million CONNS=1000000    a million: half an hour or more, and 15 GB of memory. ARGS='-phases idle -gogc 100' is for tools/million -h
CONNS ?= 20000
ARGS  ?=
million:
	go run ./tools/million -conns $(CONNS) $(ARGS)

# make measure-cluster   what crossing nodes costs: CPU per delivery on one node and on three, latency, claims, memory per key. Seven minutes.
measure-cluster:
	go run ./cluster/measure

# make deploy            what deploys examples/cluster, held to the types of Kubernetes and compose files
deploy:
	cd examples/cluster/deploy && GOWORK=off go test -count=1 .

# Root, strace, ss, nmap, iptables, hping3 and slowhttptest are wanted; what is missing is skipped and says so in the table. The machine should be quiet.
trials:
	go test -count=1 -timeout 4h -v ./trials -scale 1

# The same of the cluster, 20 minutes: root, ip, iptables, ss and nats-server are wanted.
cluster-trials:
	go test -count=1 -timeout 1h -v ./cluster/trials -scale 1

# make crowd             a million sessions without sockets in one process: bytes for each, collections, a Broadcast to all, a sweep of deadlines; then
#                        what the collector does beside them, by GOGC and GOMEMLIMIT
crowd:
	go test -run '^$$' -bench '^BenchmarkMillion' -benchtime 1x -timeout 10m ./engine

# make perf              the working tree beside BASE (HEAD) and gnet, 11 rounds: which rows moved by more than their noise; an hour on a quiet
#                        machine with two cores, or ROWS=echo-64x64,churn. bench/peers/README.md says how to read it.
ROWS ?= tcp
perf: BASE ?= HEAD
perf:
	cd bench/peers && go run ./compare -base $(BASE) -workloads $(ROWS) -servers ours,ours-again,gnet,gnet-reuseport -rounds 11 -server-cpu 1 -client-cpu 0

# make bench             benchmarks of the working tree
# make bench BASE=main   the same in alternation with another ref, and the comparison
# BENCH selects benchmarks, COUNT repeats them. An older ref may have no go.work, so neither side uses one.
BENCH ?= .
COUNT ?= 10
RUN   := GOWORK=off go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

bench:
ifdef BASE
	@rm -f .bench/base.txt .bench/new.txt
	@if [ -e .bench/base ]; then git worktree remove --force .bench/base; fi
	git worktree add --detach .bench/base $(BASE)
	for i in $$(seq $(COUNT)); do \
		(cd .bench/base && $(RUN) -count 1) >> .bench/base.txt && $(RUN) -count 1 >> .bench/new.txt || exit 1; \
	done
	git worktree remove --force .bench/base
	$(TOOL) benchstat base=.bench/base.txt new=.bench/new.txt
else
	$(RUN) -count $(COUNT)
endif

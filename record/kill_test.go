package record

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const recordTo = "RECORD_TEST_RECORD_TO"

func TestMain(m *testing.M) {
	if path := os.Getenv(recordTo); path != "" {
		recordForEver(path)
	}
	os.Exit(m.Run())
}

// recordForEver records to a file until the process is killed. It prints a line when the file has some MiB.
func recordForEver(path string) {
	w, err := Create(path, Options{Memory: 1 << 20})
	if err != nil {
		panic(err)
	}
	s := w.Begin(info(17))
	told := false
	for i := 0; ; i += 1000 {
		s.Received(time.Time{}, pattern(1000, i))
		if n := w.Stats().Bytes; !told && n > 4<<20 {
			told = true
			os.Stdout.WriteString("recording\n")
		}
	}
}

// V3: a process that is killed while it records leaves a file that is readable up to its last whole record.
func TestKilled(t *testing.T) {
	for range 3 {
		path := filepath.Join(t.TempDir(), "killed.pcapng")
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), recordTo+"="+path)
		says, err := child.StdoutPipe()
		must(t, err)
		must(t, child.Start())
		_, err = bufio.NewReader(says).ReadString('\n')
		must(t, child.Process.Kill())
		_ = child.Wait()
		must(t, err)
		r := open(t, path)
		if len(r.Sessions) != 1 || r.Sessions[0].ID != 17 || r.Sessions[0].Ended {
			t.Fatalf("%d sessions", len(r.Sessions))
		}
		at, events := 0, r.Sessions[0].events(t)
		for i, e := range events {
			at += e.Lost
			if len(e.Data) != 1000 || e.Data[0] != byte(at%251) || e.Data[999] != byte((at+999)%251) {
				t.Fatalf("event %d of %d differs", i, len(events))
			}
			at += len(e.Data)
		}
		if len(events) < 4000*9/10 {
			t.Errorf("%d events of 4 MiB", len(events))
		}
	}
}

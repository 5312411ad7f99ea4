// Closed-loop load on etcd: every client asks, waits for the answer, asks again.
//
// It says the same lines as the loads in Python (benchmarks/loads/closed_loop.py tells which) and decides nothing:
// the task comes as JSON in the only argument, every latency goes back as it was measured.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

type task struct {
	Endpoints   []string `json:"endpoints"`
	Kind        string   `json:"kind"`
	Clients     int      `json:"clients"`
	Connections int      `json:"connections"`
	Seconds     float64  `json:"seconds"`
	Warmup      float64  `json:"warmup_seconds"`
	Patience    float64  `json:"patience_seconds"`
	Keys        int      `json:"keys"`
	ValueBytes  int      `json:"value_bytes"`
	Seed        int64    `json:"seed"`
}

type outcome struct {
	Seconds    float64      `json:"seconds"`
	CPUSeconds float64      `json:"cpu_seconds"`
	Latencies  []int64      `json:"latencies_us"`
	Errors     int          `json:"errors"`
	FirstError string       `json:"first_error"`
	Gaps       [][2]float64 `json:"gaps"`
}

// silences notes when no operation was answered for longer than gapSeconds.
type silences struct {
	sync.Mutex
	latest time.Time
	gaps   [][2]float64
}

const gapSeconds = 0.02

func (heard *silences) answered(now time.Time) {
	heard.Lock()
	defer heard.Unlock()
	if now.Sub(heard.latest).Seconds() > gapSeconds {
		heard.gaps = append(heard.gaps, [2]float64{sinceEpoch(heard.latest), sinceEpoch(now)})
	}
	if now.After(heard.latest) {
		heard.latest = now
	}
}

func sinceEpoch(moment time.Time) float64 { return float64(moment.UnixNano()) / 1e9 }

// fillTogether stays below the number of operations that etcd allows in one transaction, which is 128.
const fillTogether = 100

func key(number int) string { return fmt.Sprintf("bench/%08d", number) }

func main() {
	var asked task
	if len(os.Args) != 2 {
		fail("one argument: the task as JSON")
	}
	if err := json.Unmarshal([]byte(os.Args[1]), &asked); err != nil {
		fail(err.Error())
	}
	value := strings.Repeat("v", asked.ValueBytes)
	switch asked.Kind {
	case "ready":
		ready(asked, value)
		say(outcome{Latencies: []int64{}, Gaps: [][2]float64{}})
	case "fill":
		say(fill(asked, value))
	default:
		say(measure(asked, value))
	}
}

// ready returns when one put was acknowledged.
func ready(asked task, value string) {
	client := connected(asked.Endpoints)
	for deadline := time.Now().Add(seconds(asked.Patience)); time.Now().Before(deadline); {
		limited, done := context.WithTimeout(context.Background(), time.Second)
		_, err := client.Put(limited, "bench/ready", value)
		done()
		if err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	fail("not ready in time")
}

// fill puts every key once, as fast as transactions allow.
func fill(asked task, value string) outcome {
	client := connected(asked.Endpoints)
	began := time.Now()
	chunks := make(chan int)
	var workers sync.WaitGroup
	for worker := 0; worker < 8; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for first := range chunks {
				last := first + fillTogether
				if last > asked.Keys {
					last = asked.Keys
				}
				if err := putTogether(client, first, last, value); err != nil {
					fail(err.Error())
				}
			}
		}()
	}
	for first := 0; first < asked.Keys; first += fillTogether {
		chunks <- first
	}
	close(chunks)
	workers.Wait()
	return outcome{Seconds: time.Since(began).Seconds(), Latencies: []int64{}, Gaps: [][2]float64{}}
}

func measure(asked task, value string) outcome {
	connections := make([]*etcd, asked.Connections)
	for number := range connections {
		connections[number] = connected(asked.Endpoints)
	}
	var found outcome
	began := time.Now().Add(seconds(asked.Warmup))
	ends := began.Add(seconds(asked.Seconds))
	limit, done := context.WithDeadline(context.Background(), ends.Add(seconds(asked.Patience)))
	defer done()

	heard := &silences{latest: began, gaps: [][2]float64{}}
	results := make([]outcome, asked.Clients)
	var clients sync.WaitGroup
	for number := 0; number < asked.Clients; number++ {
		clients.Add(1)
		go func(number int) {
			defer clients.Done()
			client := connections[number%len(connections)]
			results[number] = loop(limit, client, asked, int64(number), value, began, ends, heard)
		}(number)
	}
	time.Sleep(time.Until(began))
	fmt.Println("begin")
	cpu := cpuSeconds()
	time.Sleep(time.Until(ends))
	found.CPUSeconds = cpuSeconds() - cpu
	found.Seconds = time.Since(began).Seconds()
	fmt.Println("end")
	clients.Wait()
	found.Gaps = heard.gaps
	for _, result := range results {
		found.Latencies = append(found.Latencies, result.Latencies...)
		found.Errors += result.Errors
		if found.FirstError == "" {
			found.FirstError = result.FirstError
		}
	}
	return found
}

func loop(
	limit context.Context, client *etcd, asked task, number int64, value string, began, ends time.Time, heard *silences,
) outcome {
	chance := rand.New(rand.NewSource(asked.Seed<<20 + number))
	result := outcome{Latencies: []int64{}}
	for {
		start := time.Now()
		if !start.Before(ends) {
			return result
		}
		var err error
		if asked.Kind == "get" {
			answer, wrong := client.Get(limit, key(chance.Intn(asked.Keys)))
			err = wrong
			if err == nil && (len(answer.Kvs) != 1 || len(answer.Kvs[0].Value) != asked.ValueBytes) {
				err = fmt.Errorf("a key that was filled has no value")
			}
		} else {
			_, err = client.Put(limit, key(chance.Intn(asked.Keys)), value)
		}
		now := time.Now()
		switch {
		case err != nil:
			result.Errors++
			if result.FirstError == "" {
				result.FirstError = err.Error()
			}
			time.Sleep(10 * time.Millisecond)
		case !now.Before(began) && !now.After(ends):
			result.Latencies = append(result.Latencies, now.Sub(start).Microseconds())
			heard.answered(now)
		}
	}
}

func connected(endpoints []string) *etcd {
	client, err := connect(endpoints)
	if err != nil {
		fail(err.Error())
	}
	return client
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail(err.Error())
	}
	total := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return total.Seconds()
}

func seconds(figure float64) time.Duration { return time.Duration(figure * float64(time.Second)) }

func say(found outcome) {
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fail(err.Error())
	}
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, "etcd load: "+reason)
	os.Exit(1)
}

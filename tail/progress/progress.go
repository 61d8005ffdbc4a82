// Package progress draws a progress bar on a terminal.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Bar is a progress bar, which appears when the work has taken a second. A nil Bar shows
// nothing.
type Bar struct {
	w      *os.File
	counts func() (done, total int64)
	start  time.Time
	stop   chan struct{}
	ended  sync.WaitGroup
}

// Start starts a Bar on errw; it returns nil if that is not a terminal. The bar calls
// counts from its own goroutine for the bytes that are done, and the total. It draws
// nothing while the total is 0. The caller stops the bar.
func Start(errw io.Writer, counts func() (done, total int64)) *Bar {
	f, ok := errw.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	b := &Bar{w: f, counts: counts, start: time.Now(), stop: make(chan struct{})}
	b.ended.Go(b.run)
	return b
}

func (b *Bar) run() {
	select {
	case <-b.stop:
		return
	case <-time.After(time.Second):
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		b.draw()
		select {
		case <-b.stop:
			fmt.Fprint(b.w, "\r\x1b[K")
			return
		case <-tick.C:
		}
	}
}

func (b *Bar) draw() {
	done, total := b.counts()
	width, _, err := term.GetSize(int(b.w.Fd()))
	if err != nil || total <= 0 {
		return
	}
	part := min(1, float64(done)/float64(total))
	left := ""
	if part > 0.02 {
		took := time.Since(b.start)
		left = fmt.Sprintf(", %v left", time.Duration(float64(took)/part*(1-part)).Round(time.Second))
	}
	text := fmt.Sprintf(" %3.0f %% of %.0f MB%s", 100*part, float64(total)/1e6, left)
	bar := max(0, min(width-len(text)-3, 60))
	full := int(part * float64(bar))
	fmt.Fprintf(b.w, "\r\x1b[K[%s%s]%s", strings.Repeat("#", full), strings.Repeat("-", bar-full), text)
}

// Stop removes the bar and waits until its goroutine has ended. It must be called once.
func (b *Bar) Stop() {
	if b == nil {
		return
	}
	close(b.stop)
	b.ended.Wait()
}

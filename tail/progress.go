package tail

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/flogtool/flogtool/event/flogfile"
)

// Progress draws a bar on a terminal for work of more than a second. A nil
// Progress draws nothing.
type Progress struct {
	w     *os.File
	start time.Time
	stop  chan struct{}
	done  sync.WaitGroup

	mu      sync.Mutex
	readers []*flogfile.Reader // guarded by mu
	total   int64              // guarded by mu
}

// NewProgress returns a Progress on errw, nil if that is no terminal. The total
// is the bytes of all files.
func NewProgress(errw io.Writer, files []string) *Progress {
	f, ok := errw.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	p := &Progress{w: f, start: time.Now(), stop: make(chan struct{})}
	for _, name := range files {
		st, err := os.Stat(name)
		if err != nil || !st.Mode().IsRegular() {
			return nil
		}
		p.total += st.Size()
	}
	p.done.Go(p.run)
	return p
}

func (p *Progress) add(r *flogfile.Reader) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readers = append(p.readers, r)
	if len(p.readers) == 1 && r.Size() > 0 && r.Size() < p.total {
		p.total = r.Size() // of a file with an index only a part is read
	}
}

func (p *Progress) run() {
	select {
	case <-p.stop:
		return
	case <-time.After(time.Second):
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		p.draw()
		select {
		case <-p.stop:
			fmt.Fprint(p.w, "\r\x1b[K")
			return
		case <-tick.C:
		}
	}
}

func (p *Progress) draw() {
	p.mu.Lock()
	var done int64
	for _, r := range p.readers {
		done += r.Compressed()
	}
	total := p.total
	p.mu.Unlock()
	width, _, err := term.GetSize(int(p.w.Fd()))
	if err != nil || total <= 0 {
		return
	}
	part := min(1, float64(done)/float64(total))
	left := ""
	if part > 0.02 {
		left = ", " + duration(time.Since(p.start).Seconds()/part*(1-part)) + " left"
	}
	text := fmt.Sprintf(" %3.0f %% of %.0f MB%s", 100*part, float64(total)/1e6, left)
	bar := max(0, min(width-len(text)-3, 60))
	full := int(part * float64(bar))
	fmt.Fprintf(p.w, "\r\x1b[K[%s%s]%s", strings.Repeat("#", full), strings.Repeat("-", bar-full), text)
}

// Stop removes the bar.
func (p *Progress) Stop() {
	if p == nil {
		return
	}
	close(p.stop)
	p.done.Wait()
}

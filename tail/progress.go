package tail

import (
	"io"
	"os"
	"sync"

	"github.com/flogtool/flogtool/event/flogfile"
	"github.com/flogtool/flogtool/tail/progress"
)

// Progress shows how much of files is read. A nil Progress shows nothing.
type Progress struct {
	bar *progress.Bar

	mu      sync.Mutex
	readers []*flogfile.Reader // guarded by mu
	total   int64              // guarded by mu
}

// NewProgress returns a Progress on errw, nil if that is no terminal. The total
// is the bytes of all files.
func NewProgress(errw io.Writer, files []string) *Progress {
	p := &Progress{}
	for _, name := range files {
		st, err := os.Stat(name)
		if err != nil || !st.Mode().IsRegular() {
			return nil
		}
		p.total += st.Size()
	}
	if p.bar = progress.Start(errw, p.how); p.bar == nil {
		return nil
	}
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

func (p *Progress) how() (done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.readers {
		done += r.BytesRead()
	}
	return done, p.total
}

// Stop removes the bar.
func (p *Progress) Stop() {
	if p != nil {
		p.bar.Stop()
	}
}

package appserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/flogtool/flogtool/internal/durable"
	"github.com/flogtool/flogtool/rpc"
)

const (
	blockSize    = 256 << 10       // bytes of one request; the largest answer that rpc reads into given memory
	blocksAhead  = 8               // unanswered requests; measured: more are not faster
	stallTimeout = 2 * time.Minute // without a block, after which an upload fails
	partial      = ".partial"      // suffix of the name of an incomplete file
	markPrefix   = "upload-"       // prefix of the names of the marks in the private directory
)

// An uploader is an upload-file service: it stores files in one directory.
//
// It writes a file to NAME.partial, syncs it, and renames it. While the file is
// incomplete, a mark in the service's private directory holds its name, so that the
// next start removes exactly the files that a killed server has left.
type uploader struct {
	*rpc.Methods
	at             Place
	target         string
	mode           fs.FileMode
	subdirectories bool
	maxSize, quota int64 // bytes of one file, and of all in the target directory; 0: no limit

	mu       sync.Mutex
	incoming map[string]int64 // guarded by mu; by name, the bytes received of each file being uploaded
	stored   int64            // guarded by mu; bytes of all other files at the last count
}

// newUploader makes a service from [options] DIR.
func newUploader(at Place, args []string) (Service, error) {
	u := &uploader{at: at, mode: 0o644, incoming: map[string]int64{}}
	opts := &optionScanner{args: args}
	for opts.next() {
		switch opts.name {
		case "--mode":
			n, err := parseMode(opts.text())
			if err != nil {
				return nil, err
			}
			u.mode = n
		case "--allow-subdirectories":
			u.subdirectories = true
		case "--max-size":
			u.maxSize = opts.size()
		case "--quota":
			u.quota = opts.size()
		default:
			opts.unknown()
		}
	}
	if opts.err != nil {
		return nil, opts.err
	}
	if len(opts.args) != 1 {
		return nil, errors.New("wrong number of arguments: upload-file takes one directory")
	}
	u.target = opts.args[0]
	if !filepath.IsAbs(u.target) {
		u.target = filepath.Join(at.Base, u.target)
	}
	if info, err := os.Stat(u.target); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("targetdir %q must already exist", u.target)
	}
	if err := syscall.Access(u.target, 2); err != nil { // W_OK
		return nil, fmt.Errorf("targetdir %q must be writeable", u.target)
	}
	u.Methods = &rpc.Methods{Map: map[string]func(*rpc.Call) (any, error){"putfile": u.putfile}}
	return u, nil
}

// parseMode reads a mode as the original does: octal if it begins with 0.
func parseMode(text string) (fs.FileMode, error) {
	base := 10
	if strings.HasPrefix(text, "0") {
		base, text = 8, strings.TrimPrefix(text, "0o")
	}
	n, err := strconv.ParseUint(text, base, 9)
	if err != nil {
		return 0, fmt.Errorf("mode %q is not a number from 0 to 0777", text)
	}
	return fs.FileMode(n), nil
}

// Close does nothing: an upload ends with its client's connection.
func (u *uploader) Close() {}

// Start removes the partial files that a killed server has left.
func (u *uploader) Start() error {
	marks, err := filepath.Glob(filepath.Join(u.at.Dir, markPrefix+"*"))
	if err != nil || len(marks) == 0 {
		return err
	}
	root, err := os.OpenRoot(u.target)
	if err != nil {
		return err
	}
	defer root.Close()
	var errs []error
	for _, mark := range marks {
		name, err := os.ReadFile(mark)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if strings.HasSuffix(string(name), partial) { // otherwise it was killed before it wrote the name
			if err := root.Remove(string(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
				continue
			}
			u.at.Log.Info("removed the file of a broken upload", "file", string(name))
		}
		errs = append(errs, os.Remove(mark))
	}
	return errors.Join(errs...)
}

func insecure(name string, why string) error {
	if len(name) > 100 {
		name = name[:100] + "…"
	}
	return rpc.Errorf("twisted.python.filepath.InsecurePath", "%q is not a valid name for an upload: %s", name, why)
}

// check refuses names that are not the name of a file in the target directory. os.Root
// refuses symbolic links that lead out of it.
func (u *uploader) check(name string) error {
	switch {
	case strings.ContainsRune(name, 0):
		return insecure(name, "it contains a NUL")
	case len(name) > 4000:
		return insecure(name, "it is too long")
	case strings.HasSuffix(name, partial):
		return insecure(name, "incomplete files have this suffix")
	case strings.Contains(name, "/") && !u.subdirectories:
		return insecure(name, "this service does not allow subdirectories")
	}
	if strings.Count(name, "/") > maxSubdirectories {
		return insecure(name, fmt.Sprintf("it has more than %d directories", maxSubdirectories))
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return insecure(name, "part of it is not a file name")
		case len(part)+len(partial) > 255: // NAME_MAX of Linux
			return insecure(name, "it is too long")
		}
	}
	return nil
}

// putfile(name, source) stores what source.read returns under name.
func (u *uploader) putfile(c *rpc.Call) (any, error) {
	args, err := c.Require("name", "source")
	if err != nil {
		return nil, err
	}
	var name string
	if err := rpc.Convert(args[0], &name); err != nil {
		return nil, err
	}
	source, ok := args[1].(*rpc.Remote)
	if !ok {
		return nil, rpc.Errorf("builtins.TypeError", "source is not a reference")
	}
	ctx := c.Context()
	log := u.at.Log.With("peer", c.Peer().TubID(), "file", name)
	c.Go()
	if err := u.check(name); err != nil {
		log.Warn("upload refused", "err", err)
		return nil, err
	}
	if err := u.claim(name); err != nil {
		log.Warn("upload refused", "err", err)
		return nil, err
	}
	defer u.release(name)
	n, err := u.store(ctx, name, source)
	if err != nil {
		log.Warn("upload failed", "bytes", n, "err", err)
		return nil, err
	}
	log.Info("upload stored", "bytes", n)
	return nil, nil
}

// store writes the file. After an error nothing is left of it.
func (u *uploader) store(ctx context.Context, name string, source *rpc.Remote) (n int64, err error) {
	dir, made, err := u.openDir(path.Dir(name))
	defer func() {
		if err != nil {
			u.removeDirs(made)
		}
	}()
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	mark := filepath.Join(u.at.Dir, markPrefix+rand.Text())
	if err := writeMark(mark, name+partial); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.Remove(mark)) }()

	// A file of this name is replaced: it may be from a broken upload of the original,
	// or a link that another user has made.
	base := path.Base(name)
	tmp := base + partial
	if err := dir.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	f, err := dir.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = fetch(ctx, source, limitedWriter{u, name, f})
	if err == nil {
		err = errors.Join(f.Chmod(u.mode), f.Sync(), checkUnmoved(dir, tmp, f))
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = u.commit(name, func() error { return dir.Rename(tmp, base) })
	}
	if err != nil {
		if e := dir.Remove(tmp); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return n, err
	}
	return n, dir.SyncDir(".")
}

// writeMark writes a mark. It is not synced: after a power cut without the mark
// a partial file stays until the next upload of its name.
func writeMark(file, text string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// maxSubdirectories bounds the directories in the name of one upload.
const maxSubdirectories = 32

// openDir returns a directory in the target directory, which it creates if necessary.
// Files are stored in that directory even if its name is changed later. made are the
// directories that it has created, the outermost first, also if there is an error.
func (u *uploader) openDir(name string) (_ *durable.Dir, made []string, err error) {
	root, err := os.OpenRoot(u.target)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	if name != "." {
		for i := range len(name) + 1 {
			if i < len(name) && name[i] != '/' {
				continue
			}
			switch err := root.Mkdir(name[:i], 0o777); {
			case err == nil:
				made = append(made, name[:i])
			case !errors.Is(err, fs.ErrExist):
				return nil, made, err
			}
		}
	}
	dir, err := root.OpenRoot(name)
	if err != nil {
		return nil, made, err
	}
	return durable.FromRoot(dir), made, nil
}

// removeDirs removes the directories that a failed upload has created, unless another
// upload uses them.
func (u *uploader) removeDirs(made []string) {
	root, err := os.OpenRoot(u.target)
	if err != nil {
		return
	}
	defer root.Close()
	for _, name := range slices.Backward(made) {
		if root.Remove(name) != nil {
			return
		}
	}
}

// checkUnmoved returns an error unless name is still the name of f.
func checkUnmoved(dir *durable.Dir, name string, f durable.File) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return fmt.Errorf("another program has replaced %s", name)
	}
	return nil
}

// fetch copies what source.read returns to w, up to the empty block at the end. It
// requests several blocks ahead; requests after the end return empty blocks too.
func fetch(ctx context.Context, source *rpc.Remote, w io.Writer) (n int64, err error) {
	type request struct {
		*rpc.Pending
		buf []byte
	}
	var ahead []request
	var spare []byte // memory of the block before
	stall := time.NewTimer(stallTimeout)
	defer stall.Stop()
	for end := false; ; {
		for !end && len(ahead) < blocksAhead {
			buf := spare
			if spare = nil; buf == nil {
				buf = make([]byte, blockSize)
			}
			ahead = append(ahead, request{source.StartInto("read", rpc.Pos(blockSize).Expecting(blockSize+64<<10), buf), buf})
		}
		if len(ahead) == 0 {
			return n, nil
		}
		next := ahead[0]
		ahead = ahead[1:]
		select {
		case <-next.Done():
		case <-stall.C:
			return n, fmt.Errorf("the source sent nothing for %v", stallTimeout)
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
		stall.Reset(stallTimeout)
		var block []byte
		if err := next.Result(&block); err != nil {
			return n, err
		}
		switch {
		case len(block) > blockSize:
			return n, fmt.Errorf("the source sent %d bytes, more than the %d requested", len(block), blockSize)
		case len(block) == 0:
			end = true
		case end:
			return n, errors.New("the source sent more bytes after its end")
		}
		if _, err := w.Write(block); err != nil {
			return n, err
		}
		n += int64(len(block))
		spare = next.buf
	}
}

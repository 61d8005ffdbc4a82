package flogtool_test

import (
	"cmp"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// durablePackage is the only one that may sync, rename, or write a whole file:
// what we promise to keep goes through it, so that a test can come between.
const durablePackage = module + "internal/durable"

// keeping are the names of os's functions, and of the methods of *os.File and
// *os.Root, that this is about.
var keeping = []string{"Sync", "Rename", "WriteFile"}

// TestDurableOnly finds every other caller of them. Tests, also packages that
// support tests, bench and examples keep nothing.
func TestDurableOnly(t *testing.T) {
	sources := map[string]map[string]string{} // by package path and file
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != "." && (strings.HasPrefix(name, ".") || name == "testdata" || file == "bench" || file == "examples"):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(file)
		pkg := module + filepath.ToSlash(filepath.Dir(file))
		if sources[pkg] == nil {
			sources[pkg] = map[string]string{}
		}
		sources[pkg][filepath.ToSlash(file)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) < 20 {
		t.Fatalf("%d packages: this test passed over most of them", len(sources))
	}
	for _, place := range keepers(t, sources) {
		t.Errorf("%s: files that are kept go through internal/durable", place)
	}
}

// TestDurableOnlyFinds: the search finds each way to write past the package, and
// does not object to the package.
func TestDurableOnlyFinds(t *testing.T) {
	sources := map[string]map[string]string{
		durablePackage: {"durable.go": `package durable
			import "os"
			type File interface { Sync() error }
			type Dir struct{}
			func (*Dir) Open() File { f, _ := os.Open(""); f.Sync(); return f }
			func (*Dir) WriteFile(name string, data []byte, mode int) error { return os.WriteFile("", nil, 0) }
			func WriteFile(name string, data []byte, mode int) error { return os.Rename("", "") }`},
		module + "good": {"good.go": `package good
			import ("os"; kept "` + durablePackage + `")
			type holder struct { file kept.File; *kept.Dir; Sync bool }
			func (h *holder) f(open func() (*kept.Dir, error)) error {
				d, err := open()
				if err != nil { return err }
				if f := d.Open(); h.Sync { f.Sync() }
				return d.WriteFile("x", nil, os.ModePerm)
			}
			func g(h holder) { h.file.Sync(); h.WriteFile("x", nil, 0); _ = kept.WriteFile }`},
		module + "bad": {
			"bad.go": `package bad
			import ("os"; sys "os"; "` + module + `good")
			type syncer interface { Sync() error }
			type own struct{ f *os.File }
			func calls(root *os.Root, s syncer, o own) {
				os.Rename("a", "b")             // 6
				sys.WriteFile("a", nil, 0)      // 7
				root.Rename("a", "b")           // 8
				root.WriteFile("a", nil, 0)     // 9
				f, _ := root.Create("a")
				f.Sync()                        // 11
				o.f.Sync()                      // 12
				s.Sync()                        // 13
				defer f.Sync()                  // 14
				_ = os.Rename                   // 15
				good.Unknown().Sync()           // 16
				_ = (*os.File).Sync             // 17
			}`,
			"bad_windows.go": `package bad
			import "os"
			func windows(f *os.File) { f.Sync() }`,
			"bad_plan9.go": `package bad
			import "os"
			func plan9(f *os.File) { f.Sync() }`,
			"dot.go": `package bad
			import . "os" // 2
			var _ = Rename`,
			"support.go": `package bad
			import ("os"; "testing")
			func support(t *testing.T) { os.WriteFile("", nil, 0) }`,
		},
	}
	var want []string
	for _, line := range []int{6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17} {
		want = append(want, "bad.go:"+strconv.Itoa(line))
	}
	want = append(want, "bad_plan9.go:3", "bad_windows.go:3", "dot.go:2")
	if got := keepers(t, sources); !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// keepers returns where files of sources, which are given by package path and
// name, use a name in keeping that is not known to be internal/durable's.
//
// Types are known only of what is in sources; every other package is taken for
// empty. So a method is found to be internal/durable's or it is reported: a
// mistake of this search is a false report, not an oversight.
func keepers(t *testing.T, sources map[string]map[string]string) []string {
	t.Helper()
	s := search{t, sources, token.NewFileSet(), map[string]*types.Package{}, nil}
	for pkg := range sources {
		s.Import(pkg)
	}
	slices.SortFunc(s.found, func(a, b token.Position) int {
		return cmp.Or(cmp.Compare(a.Filename, b.Filename), cmp.Compare(a.Line, b.Line))
	})
	var places []string
	for _, at := range s.found {
		places = append(places, at.Filename+":"+strconv.Itoa(at.Line))
	}
	return places
}

type search struct {
	t        *testing.T
	sources  map[string]map[string]string
	fset     *token.FileSet
	packages map[string]*types.Package
	found    []token.Position
}

// Import searches a package of sources; it implements [types.Importer].
func (s *search) Import(pkg string) (*types.Package, error) {
	if p := s.packages[pkg]; p != nil {
		return p, nil
	}
	files, ours := s.sources[pkg]
	if !ours {
		p := types.NewPackage(pkg, path.Base(pkg))
		p.MarkComplete()
		s.packages[pkg] = p
		return p, nil
	}
	var here, elsewhere []*ast.File // built on this platform, and on others only
	for name, text := range files {
		f, err := parser.ParseFile(s.fset, name, text, parser.SkipObjectResolution)
		if err != nil {
			s.t.Fatal(err)
		}
		platform := build.Default
		platform.OpenFile = func(string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
		built, err := platform.MatchFile(path.Dir(name), path.Base(name))
		if err != nil {
			s.t.Fatal(err)
		}
		if built {
			here = append(here, f)
		} else {
			elsewhere = append(elsewhere, f)
		}
	}
	info := types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: s, Error: func(error) {}} // what is missing in empty packages
	p, _ := config.Check(pkg, s.fset, here, &info)
	s.packages[pkg] = p
	if pkg != durablePackage {
		for _, f := range slices.Concat(here, elsewhere) {
			s.file(f, info.Uses)
		}
	}
	return p, nil
}

// file searches a file, unless it supports tests.
func (s *search) file(f *ast.File, uses map[*ast.Ident]types.Object) {
	for _, imported := range f.Imports {
		switch {
		case imported.Path.Value == `"testing"`:
			return
		case imported.Path.Value == `"os"` && imported.Name != nil && imported.Name.Name == ".":
			s.found = append(s.found, s.fset.Position(imported.Pos())) // its names could not be told apart
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || !slices.Contains(keeping, sel.Sel.Name) {
			return true
		}
		switch object := uses[sel.Sel].(type) {
		case *types.Var: // a field
		case *types.Func:
			if object.Pkg().Path() != durablePackage {
				s.found = append(s.found, s.fset.Position(sel.Sel.Pos()))
			}
		default:
			s.found = append(s.found, s.fset.Position(sel.Sel.Pos()))
		}
		return true
	})
}

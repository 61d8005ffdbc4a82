package flogtool_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// citation is how comments and documents cite: the file name of a document,
	// alone or followed by the numbers of sections or decisions, or by a comma and
	// a title in quotes.
	citation = regexp.MustCompile(`\b([A-Za-z-]+\.md)(?:,? (section|decision)s? (\d[\d.]*(?:(?:, | and | to )\d[\d.]*)*)|, "([^"]+)")?`)

	// uncited is a section or decision of a document that is not named.
	uncited = regexp.MustCompile(`\b(?:section|decision)s? \d[\d.]*`)

	number = regexp.MustCompile(`\d+(?:\.\d+)*`)
)

// TestCitations keeps what comments and documents cite: the document exists, in
// docs, docs/spec or here, and so does the section, the decision or the title.
func TestCitations(t *testing.T) {
	docs := documents(t)
	cited := 0
	for place, text := range comments(t) {
		cited += checkCitations(t, docs, place, text, true)
	}
	if cited < 40 {
		t.Errorf("only %d citations in comments: this test no longer finds them", cited)
	}
	for name, d := range docs {
		checkCitations(t, docs, name, d.prose, false)
	}
}

// checkCitations reports each citation in text that leads nowhere and returns
// how many there are. If strict, a section must name its document.
func checkCitations(t *testing.T, docs map[string]document, place, text string, strict bool) (cited int) {
	t.Helper()
	text = strings.Join(strings.Fields(text), " ")
	for _, m := range citation.FindAllStringSubmatch(text, -1) {
		cited++
		d, ok := docs[m[1]]
		if !ok {
			t.Errorf("%s cites %s, which is not in docs/", place, m[1])
			continue
		}
		for _, n := range number.FindAllString(m[3], -1) {
			if found := d.sections[n]; m[2] == "section" && !found {
				t.Errorf("%s cites %s section %s, which does not exist", place, m[1], n)
			}
			if found := d.decisions[n]; m[2] == "decision" && !found {
				t.Errorf("%s cites %s decision %s, which does not exist", place, m[1], n)
			}
		}
		if title := m[4]; title != "" && !slices.ContainsFunc(d.titles, func(s string) bool {
			return s == title || strings.HasPrefix(s, title+":")
		}) {
			t.Errorf("%s cites %s, %q, which does not exist", place, m[1], title)
		}
	}
	if strict {
		if m := uncited.FindString(citation.ReplaceAllString(text, "")); m != "" {
			t.Errorf("%s cites %q without its document", place, m)
		}
	}
	return cited
}

// document is what can be cited of a document.
type document struct {
	path      string
	prose     string          // without code blocks
	sections  map[string]bool // by number
	titles    []string
	decisions map[string]bool // numbered items at the margin
}

// documents reads the documents by their names.
func documents(t *testing.T) map[string]document {
	t.Helper()
	docs := map[string]document{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/spec/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name := filepath.Base(file)
			if _, twice := docs[name]; twice {
				t.Errorf("two documents are named %s", name)
			}
			docs[name] = readDocument(t, file)
		}
	}
	return docs
}

var (
	heading  = regexp.MustCompile(`^#+ (?:(\d+(?:\.\d+)*)\.? )?(.*)`)
	decision = regexp.MustCompile(`^(\d+)\. `)
)

func readDocument(t *testing.T, file string) document {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := document{path: file, sections: map[string]bool{}, decisions: map[string]bool{}}
	code := false
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "```") {
			code = !code
			continue
		}
		if code {
			continue
		}
		d.prose += line
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			d.sections[m[1]] = true
			d.titles = append(d.titles, strings.ReplaceAll(m[2], "`", ""))
		} else if m := decision.FindStringSubmatch(line); m != nil {
			d.decisions[m[1]] = true
		}
	}
	delete(d.sections, "") // headings without a number
	return d
}

// comments returns the comments of all Go files, by their place.
func comments(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	fset := token.NewFileSet()
	goFiles(t, func(path string) {
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range f.Comments {
			all[fset.Position(group.Pos()).String()] = group.Text()
		}
	})
	return all
}

// goFiles calls f with the path of each Go file of the repository.
func goFiles(t *testing.T, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == ".git"):
			return fs.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, ".go"):
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNamedTests keeps the tests and test scripts that the documents name: they
// exist.
func TestNamedTests(t *testing.T) {
	tests := map[string]bool{}
	fset := token.NewFileSet()
	goFiles(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				tests[fn.Name.Name] = true
			}
		}
	})
	named := 0
	for _, d := range documents(t) {
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(d.prose, -1) {
			named++
			if !tests[name] {
				t.Errorf("%s names the test %s, which does not exist", d.path, name)
			}
		}
		for _, name := range regexp.MustCompile(`\bscript/[\w-]+\.txtar`).FindAllString(d.prose, -1) {
			named++
			if files, _ := filepath.Glob("cmd/*/testdata/" + name); len(files) == 0 {
				t.Errorf("%s names %s, which does not exist", d.path, name)
			}
		}
	}
	if named == 0 {
		t.Error("the documents name no test: this test no longer finds them")
	}
}

// TestLinks keeps the links between the documents and into the repository.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, d := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(d.prose, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(d.path), filepath.FromSlash(m[1]))); err != nil {
				t.Errorf("%s links to %s: %v", d.path, m[1], err)
			}
		}
	}
}

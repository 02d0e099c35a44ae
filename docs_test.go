package session_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	linkPattern = regexp.MustCompile(`\[([^\]\n]*)\]\(([^)\s]+)\)`)
	codePattern = regexp.MustCompile("(?m)```[\\s\\S]*?```|`[^`\n]*`|^    [^\n]*$")
	testPattern = regexp.MustCompile(`\b(?:Test|Fuzz|Example)[A-Z]\w*`)
)

// testsOf finds the test functions of every module in the repository, by the
// file that holds them.
func testsOf(t *testing.T) map[string][]string {
	t.Helper()
	files := make(map[string][]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && testPattern.MatchString(f.Name.Name) {
				files[f.Name.Name] = append(files[f.Name.Name], filepath.ToSlash(path))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func markdown(t *testing.T) []string {
	t.Helper()
	top, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(top, docs, deeper)
}

// Every test that a page names exists, in the file that the page links to, and
// so does every file.
func TestPagesNameWhatExists(t *testing.T) {
	tests := testsOf(t)
	for _, page := range markdown(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range linkPattern.FindAllStringSubmatch(codePattern.ReplaceAllString(string(text), ""), -1) {
			checkLink(t, tests, page, link[1], link[2])
		}
		for _, name := range testPattern.FindAllString(string(text), -1) {
			if tests[name] == nil && !strings.HasPrefix(name, "TestPeers") {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
}

func checkLink(t *testing.T, tests map[string][]string, page, label, target string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Errorf("%s: %v", page, err)
		return
	}
	if u.Scheme != "" || u.Path == "" {
		return
	}
	path := filepath.ToSlash(filepath.Join(filepath.Dir(page), u.Path))
	if _, err := os.Stat(path); err != nil {
		t.Errorf("%s links to %s: %v", page, target, err)
		return
	}
	if name := testPattern.FindString(label); name == label && name != "" && !in(tests[name], path) {
		t.Errorf("%s links %s to %s; it is in %q", page, name, path, tests[name])
	}
	if u.Fragment != "" && !hasHeading(t, path, u.Fragment) {
		t.Errorf("%s links to %s, which has no such heading", page, target)
	}
}

func in(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

// hasHeading reports whether a page has a heading that GitHub would give this
// anchor.
func hasHeading(t *testing.T, page, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			title = strings.ToLower(strings.TrimSpace(title))
			title = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(title, "")
			if strings.ReplaceAll(title, " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}

// Every rule of the contract has a row in docs/design.md, with a file and a test.
func TestEveryRuleHasARow(t *testing.T) {
	text, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([RLECT]\d+) \| .* \| .*\.go\).* \| .*(?:Test|Fuzz).* \|$`)
	var rows []string
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, m[1])
	}
	const want = "R1 R2 R3 R4 R5 R6 R7 R8 R9 R10 R11 R12 R13 R14 R15 R16 L1 L2 L3 L4 E1 E2 E3 E4 E5 E6 C1 C2 C3 C4 C5 C6 C7 T1 T2 T3 T4 T5 T6 T7"
	if got := strings.Join(rows, " "); got != want {
		t.Errorf("rows for %s, want %s", got, want)
	}
}

// The program at the top of the README is whole: it builds as it stands.
func TestReadmeProgramBuilds(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(text), "```go\n")
	program, _, _ = strings.Cut(program, "```")
	builds(t, program)
}

// What docs/users.md shows builds too, all of it as one program.
func TestUsersPageBuilds(t *testing.T) {
	text, err := os.ReadFile("docs/users.md")
	if err != nil {
		t.Fatal(err)
	}
	program := `package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/sojourn-go/session"
)

var (
	sessions    *session.Manager
	lockAccount func(context.Context, string) error
)

func main() {}
`
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	for _, block := range blocks {
		program += "\n" + block[1]
	}
	if len(blocks) != 7 {
		t.Errorf("%d pieces of code, want 7", len(blocks))
	}
	builds(t, program)
}

// builds compiles a program that is in no file.
func builds(t *testing.T, program string) {
	t.Helper()
	// As a file inside the module, so that it is built against this version of the
	// library, but only for this one build.
	dir := t.TempDir()
	source, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	where, err := filepath.Abs(filepath.Join("examples", "page", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {where: source}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(source, []byte(program), 0o600), os.WriteFile(overlay, replace, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "build", "-overlay", overlay, "-o", filepath.Join(dir, "page.exe"), "./examples/page").CombinedOutput()
	if err != nil {
		t.Errorf("go build: %v\n%s", err, out)
	}
}

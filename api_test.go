package session_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// maxExported keeps the package small enough to be read in one sitting; the
// contract says under 60.
const maxExported = 59

// TestExportedNames counts the exported names of the package itself, methods
// and fields apart, and holds each of them, and each exported method, to a
// comment.
func TestExportedNames(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			names = append(names, exported(t, decl)...)
		}
	}
	t.Logf("%d exported names: %s", len(names), strings.Join(names, " "))
	if len(names) > maxExported {
		t.Errorf("%d exported names, at most %d", len(names), maxExported)
	}
}

func exported(t *testing.T, decl ast.Decl) (names []string) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if !decl.Name.IsExported() || decl.Recv != nil && !receiverIsExported(decl.Recv) {
			return nil
		}
		documented(t, decl.Name, decl.Doc)
		if decl.Recv == nil {
			names = append(names, decl.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				if spec.Name.IsExported() {
					documented(t, spec.Name, decl.Doc, spec.Doc, spec.Comment)
					names = append(names, spec.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					if name.IsExported() {
						documented(t, name, decl.Doc, spec.Doc, spec.Comment)
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

func receiverIsExported(recv *ast.FieldList) bool {
	expr := recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	switch indexed := expr.(type) {
	case *ast.IndexExpr:
		expr = indexed.X
	case *ast.IndexListExpr:
		expr = indexed.X
	}
	name, ok := expr.(*ast.Ident)
	return ok && name.IsExported()
}

func documented(t *testing.T, name *ast.Ident, comments ...*ast.CommentGroup) {
	for _, c := range comments {
		if c.Text() != "" {
			return
		}
	}
	t.Errorf("%s has no comment", name.Name)
}

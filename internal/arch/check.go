// Package arch checks the shape of the code: who imports whom, where each
// technology lives, that every goroutine has an owner, and that there is no
// hidden state. It parses the source files itself, so that the go command,
// which tracks the files that a test opens, cannot answer from its cache after
// one of them has changed.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// module is the path of the module that is checked.
const module = "github.com/parley-im/parley"

// Check parses every Go file of the module in fsys and returns what breaks a
// rule, one line each, in order of file.
func Check(fsys fs.FS) ([]string, error) {
	c := &checker{fset: token.NewFileSet(), rules: packages()}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped(name):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".go":
			return nil
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(c.fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		c.file(name, file)
		return nil
	})
	return c.faults, err
}

// skipped is whether a folder holds no code of ours.
func skipped(name string) bool {
	base := path.Base(name)
	return name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "node_modules")
}

type checker struct {
	fset   *token.FileSet
	rules  map[string]rule
	faults []string
}

func (c *checker) fault(pos token.Pos, format string, args ...any) {
	p := c.fset.Position(pos)
	c.faults = append(c.faults, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, fmt.Sprintf(format, args...)))
}

// file checks one file. Tests are held to the rules about imports and sleeping;
// the others are about code that runs in the server.
func (c *checker) file(name string, file *ast.File) {
	pkg, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	if _, ok := c.rules[pkg]; !ok {
		c.fault(file.Package, "package %s has no rule in internal/arch", pkg)
	}
	if base := strings.TrimSuffix(file.Name.Name, "_test"); slices.Contains(vagueNames(), base) || slices.Contains(vagueNames(), path.Base(pkg)) {
		c.fault(file.Package, "package name %s says nothing", base)
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			c.fault(spec.Pos(), "import path %s: %v", spec.Path.Value, err)
			continue
		}
		c.imported(spec.Pos(), pkg, imported, test)
	}
	if !test {
		c.state(file)
		c.decoding(pkg, file)
	}
	c.statements(file, test)
}

// imported checks one import.
func (c *checker) imported(pos token.Pos, pkg, imported string, test bool) {
	if why, ok := refused()[imported]; ok {
		c.fault(pos, "imports %s: %s", imported, why)
		return
	}
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case imported == module || strings.HasPrefix(imported, module+"/"):
		c.internal(pos, pkg, strings.TrimPrefix(strings.TrimPrefix(imported, module), "/"), test)
	case strings.Contains(first, "."):
		c.technology(pos, pkg, imported, test)
	case !test && (pkg == "internal/broker" || pkg == "internal/account" || pkg == "internal/backend" || pkg == ".") &&
		slices.Contains(coreRefused(), imported):
		c.fault(pos, "the core imports %s", imported)
	}
}

// internal checks an import of this module; the root's relative path is empty.
func (c *checker) internal(pos token.Pos, pkg, imported string, test bool) {
	if imported == "" {
		imported = "."
	}
	r := c.rules[pkg]
	allowed := slices.Contains(r.imports, imported)
	if test && !allowed {
		allowed = imported == pkg || slices.Contains(suites(), imported) || slices.Contains(r.tests, imported) ||
			strings.HasPrefix(imported, "server/servertest") && slices.Contains(serverTests(), pkg)
	}
	if !allowed {
		c.fault(pos, "%s may not import %s", pkg, imported)
	}
}

// technology checks an import of a third-party package.
func (c *checker) technology(pos token.Pos, pkg, imported string, test bool) {
	for _, tech := range slices.Sorted(maps.Keys(technologies())) {
		homes := technologies()[tech]
		if imported != tech && !strings.HasPrefix(imported, tech+"/") {
			continue
		}
		if slices.Contains(homes, pkg) || test && (len(homes) == 0 || slices.Contains(testTechnologies(), imported)) {
			return
		}
		c.fault(pos, "%s lives in %v (none: tests only), not in %s", tech, homes, pkg)
		return
	}
	c.fault(pos, "%s has no home in internal/arch", imported)
}

// state finds init functions and package-level variables. Errors, interface
// guards and embedded files are none, and one that golangci-lint is told about,
// with its reason, is allowed here too.
func (c *checker) state(file *ast.File) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				c.fault(d.Pos(), "init function: let the caller do it")
			}
		case *ast.GenDecl:
			if d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok || excused(d.Doc) || excused(v.Doc) || excused(v.Comment) {
					continue
				}
				c.variables(v)
			}
		}
	}
}

func (c *checker) variables(v *ast.ValueSpec) {
	for _, name := range v.Names {
		if n := name.Name; n != "_" && !strings.HasPrefix(n, "err") && !strings.HasPrefix(n, "Err") {
			c.fault(name.Pos(), "package-level variable %s: pass it, or make it a constant or a function", n)
		}
	}
}

// excused is whether a comment tells the linter, with a reason, why a variable
// must be global, or embeds a file.
func excused(doc *ast.CommentGroup) bool {
	if doc == nil {
		return false
	}
	return slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		_, reason, nolint := strings.Cut(c.Text, "//nolint:gochecknoglobals //")
		return nolint && strings.TrimSpace(reason) != "" || strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// decoding finds encoding/json where a stranger's bytes are decoded.
func (c *checker) decoding(pkg string, file *ast.File) {
	if !slices.ContainsFunc(strangers(), func(s string) bool { return pkg == s || strings.HasPrefix(pkg, s+"/") }) {
		return
	}
	name := localName(file, "encoding/json")
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && name != "" && selects(s, name, "Unmarshal", "NewDecoder", "Decoder") {
			c.fault(s.Pos(), "json.%s on a stranger's bytes: use internal/protocol/jsonrpc", s.Sel.Name)
		}
		return true
	})
}

// statements finds go statements outside tests, and sleeping anywhere but in
// tests under virtual time.
func (c *checker) statements(file *ast.File, test bool) {
	clock := localName(file, "time")
	if test && localName(file, "testing/synctest") != "" {
		clock = ""
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			if !test {
				c.fault(n.Pos(), "go statement: use sync.WaitGroup.Go or an errgroup in the function that waits")
			}
		case *ast.SelectorExpr:
			if clock != "" && selects(n, clock, "Sleep") {
				c.fault(n.Pos(), "time.Sleep: wait for what you wait for")
			}
		}
		return true
	})
}

// localName is what a file calls an imported package, or empty.
func localName(file *ast.File, imported string) string {
	for _, spec := range file.Imports {
		if spec.Path.Value != strconv.Quote(imported) {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(imported)
	}
	return ""
}

// selects is whether s is one of the given names of package pkg.
func selects(s *ast.SelectorExpr, pkg string, names ...string) bool {
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg && slices.Contains(names, s.Sel.Name)
}

package server

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// fileLine is one setting of a configuration file.
type fileLine struct {
	setting Setting
	given   given
}

// readYAML reads a configuration file: one mapping of settings' keys to
// scalars, or to sequences of scalars where the setting is a list. It works on
// the nodes, because only they know lines and repeated keys.
func readYAML(name string, text []byte, settings []Setting) ([]fileLine, []Fault) {
	at := func(n *yaml.Node) string { return fmt.Sprintf("file %s line %d", name, n.Line) }
	if !utf8.Valid(text) || bytes.ContainsRune(text, 0) {
		return nil, []Fault{{Source: "file " + name, Problem: "is not text in UTF-8"}}
	}
	var doc yaml.Node
	if err := yaml.Load(text, &doc); err != nil {
		return nil, []Fault{{Source: "file " + name, Problem: err.Error()}}
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, []Fault{{Source: at(root), Problem: "is not a list of settings; allowed: lines such as \"http: 127.0.0.1:8080\""}}
	}
	var lines []fileLine
	var faults []Fault
	first := make(map[string]int)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		s, known := find(settings, key.Value)
		values, problem := scalars(value, s.Repeatable)
		switch {
		case trick(key) != "":
			problem = trick(key)
		case !known:
			problem = fmt.Sprintf("unknown key %s; \"parley serve --help\" lists them", quote(key.Value))
		case first[key.Value] != 0:
			problem = fmt.Sprintf("%s is given twice, first in line %d", key.Value, first[key.Value])
		case problem != "":
			problem = fmt.Sprintf("%s %s", key.Value, problem)
		}
		if problem != "" {
			faults = append(faults, Fault{Key: s.Key, Source: at(key), Problem: problem})
			continue
		}
		first[key.Value] = key.Line
		lines = append(lines, fileLine{s, given{source: at(key) + " " + s.Key, values: values}})
	}
	return lines, faults
}

// trick says which part of YAML a node uses that has no place here: what a line
// says should be what it sets.
func trick(n *yaml.Node) string {
	switch {
	case n.Anchor != "" || n.Kind == yaml.AliasNode:
		return "anchors and aliases are not allowed"
	case n.Tag == "!!merge":
		return "merge keys are not allowed"
	case n.Style&yaml.TaggedStyle != 0:
		return "tags are not allowed"
	}
	return ""
}

// scalars returns the text of a value, or what is wrong with its form.
func scalars(n *yaml.Node, repeatable bool) ([]string, string) {
	if t := trick(n); t != "" {
		return nil, "has a wrong value: " + t
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		return []string{n.Value}, ""
	case n.Kind == yaml.ScalarNode:
		return nil, "has no value; write \"\" for an empty one"
	case n.Kind != yaml.SequenceNode || !repeatable:
		return nil, "is not a single value"
	}
	values := []string{}
	for _, item := range n.Content {
		if t := trick(item); t != "" {
			return nil, "has a wrong value: " + t
		}
		if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			return nil, "is not a list of single values"
		}
		values = append(values, item.Value)
	}
	return values, ""
}

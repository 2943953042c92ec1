package jsonrpc

import "bytes"

// deeper reports whether the objects and arrays of p nest more than MaxDepth
// levels. The JSON library has a limit of its own, 10,000 levels, which is too
// far down for a stranger. For a p that is not JSON the answer holds up to the
// first mistake, which is as far as the parser goes.
func deeper(p []byte) bool {
	depth := 0
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '{', '[':
			if depth++; depth > MaxDepth {
				return true
			}
		case '}', ']':
			depth--
		case '"':
			i = closing(p, i+1)
		}
	}
	return false
}

// closing is the index of the quote that ends the string whose text begins at
// start, or len(p). It looks at quotes only, so that a long text costs little.
func closing(p []byte, start int) int {
	for i := start; ; {
		n := bytes.IndexByte(p[i:], '"')
		if n < 0 {
			return len(p)
		}
		end := i + n
		slashes := 0
		for end-slashes > i && p[end-slashes-1] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return end
		}
		i = end + 1
	}
}

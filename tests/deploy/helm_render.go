// Renders a Helm chart to standard output: helm_render CHART VALUES.json. Text/template with sprig's functions, and the
// ones that Helm adds and our chart uses: include, toYaml, and .Files.Get.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

type files struct{ chart string }

// Get is .Files.Get: the content of a file of the chart, empty without one.
func (f files) Get(name string) string {
	content, err := os.ReadFile(filepath.Join(f.chart, name))
	if err != nil {
		return ""
	}
	return string(content)
}

// whole makes integers of numbers that JSON gave as floats, as Helm's YAML reader does.
func whole(value interface{}) interface{} {
	switch typed := value.(type) {
	case float64:
		if typed == float64(int64(typed)) {
			return int64(typed)
		}
	case map[string]interface{}:
		for key, entry := range typed {
			typed[key] = whole(entry)
		}
	case []interface{}:
		for i, entry := range typed {
			typed[i] = whole(entry)
		}
	}
	return value
}

func render(chart, valuesFile string) error {
	content, err := os.ReadFile(valuesFile)
	if err != nil {
		return err
	}
	var values map[string]interface{}
	if err := json.Unmarshal(content, &values); err != nil {
		return err
	}
	data := map[string]interface{}{"Values": whole(values), "Files": files{chart}}
	root := template.New("chart").Option("missingkey=error")
	root.Funcs(sprig.TxtFuncMap()).Funcs(template.FuncMap{
		"include": func(name string, data interface{}) (string, error) {
			var out strings.Builder
			err := root.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
		"toYaml": func(value interface{}) (string, error) {
			out, err := yaml.Marshal(value)
			return strings.TrimSuffix(string(out), "\n"), err
		},
	})
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := root.New(filepath.Base(path)).Parse(string(text)); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, ".yaml") {
			continue
		}
		fmt.Println("---")
		if err := root.ExecuteTemplate(os.Stdout, filepath.Base(path), data); err != nil {
			return err
		}
		fmt.Println()
	}
	return nil
}

func main() {
	if err := render(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

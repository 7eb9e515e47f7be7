package echoserver

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// What the command line does not set, the environment may, and what that does not set, a file. All three know the same
// names and the same values: those of the flags.

// variable returns the name by which the environment sets a flag: ECHOSERVER_MAX_SESSIONS for -max-sessions.
func variable(flag string) string {
	return "ECHOSERVER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// complete sets what the command line left open. file points to the path of the file, which may be set by either. A
// variable that names no flag is ignored: orchestrators make their own with this prefix, from the name of a service.
func complete(fs *flag.FlagSet, environ []string, file *string) error {
	set := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { set[f.Name] = true })

	env := make(map[string]string)
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	var names []string
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		names = append(names, f.Name)
		name := variable(f.Name)
		if env[name] == "" || set[f.Name] {
			return
		}
		set[f.Name] = true
		if err := fs.Set(f.Name, env[name]); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, env[name], err))
		}
	})
	if len(errs) > 0 || *file == "" {
		return errors.Join(errs...)
	}

	data, err := os.ReadFile(*file)
	if err != nil {
		return fmt.Errorf("-config: %w", err)
	}
	values, err := parseFile(data, names)
	if err != nil {
		return fmt.Errorf("-config: %s, %w", *file, err)
	}
	for _, name := range names {
		value, there := values[name]
		if !there || set[name] {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("-config: %s: %s = %q: %w", *file, name, value, err)
		}
	}
	return nil
}

// configFlag names the flag that a file cannot set.
const configFlag = "config"

// parseFile reads a TOML file whose keys are names of flags and returns their values as a command line would have them.
// Its error names the line.
func parseFile(data []byte, names []string) (map[string]string, error) {
	// A struct of the keys that may be: the library tells the place of a key only when it has no field to go to.
	var fields []reflect.StructField
	for _, name := range names {
		if name != configFlag {
			fields = append(fields, reflect.StructField{
				Name: fmt.Sprintf("F%d", len(fields)),
				Type: reflect.TypeFor[any](),
				Tag:  reflect.StructTag(`toml:"` + name + `"`),
			})
		}
	}
	keys := reflect.New(reflect.StructOf(fields))
	err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(keys.Interface())
	var unknown *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		line, _ := unknown.Errors[0].Position()
		return nil, fmt.Errorf("line %d: unknown key %q; the keys are the names of the flags", line,
			strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &bad):
		line, _ := bad.Position()
		return nil, fmt.Errorf("line %d: %w", line, err)
	case err != nil:
		return nil, err
	}
	values := make(map[string]string)
	for i, f := range fields {
		name := strings.TrimSuffix(strings.TrimPrefix(string(f.Tag), `toml:"`), `"`)
		switch v := keys.Elem().Field(i).Interface().(type) {
		case nil:
		case string:
			values[name] = v
		case int64:
			values[name] = fmt.Sprint(v)
		default:
			return nil, fmt.Errorf("key %q: want text in quotes, or a whole number", name)
		}
	}
	return values, nil
}

{{/* A value in TOML. Text, numbers and truth are written as in JSON; Helm's own toToml turns 16 into 16.0. */}}
{{- define "postrider.toml" -}}
{{- if kindIs "map" . -}}
{ {{ range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ toJson $key }} = {{ include "postrider.toml" (get $ $key) }}{{ end }} }
{{- else if kindIs "slice" . -}}
[{{ range $index, $value := . }}{{ if $index }}, {{ end }}{{ include "postrider.toml" $value }}{{ end }}]
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{/* The configuration file: the values' and what the chart decides. */}}
{{- define "postrider.config" -}}
{{- $own := dict
  "backend" "cluster"
  "server" (dict "listen" "0.0.0.0:8080" "admin_listen" "0.0.0.0:9464")
  "blobs" (dict "url" (include "postrider.bucket" . | default "file:///var/lib/postrider/blobs")) -}}
{{- $config := mergeOverwrite (deepCopy .Values.config) $own -}}
{{- range $key, $value := $config }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "postrider.toml" $value }}
{{- end }}
{{- end }}
{{- range $section, $keys := $config }}
{{- if kindIs "map" $keys }}

[{{ $section }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ include "postrider.toml" $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Variables from Secrets, and those of `env`. Of (dict "root" $ "env" more). */}}
{{- define "postrider.environment" -}}
{{- range $name, $from := .root.Values.secrets }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef: {{- toYaml $from | nindent 6 }}
{{- end }}
{{- range $name, $value := .env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

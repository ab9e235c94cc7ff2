{{- define "postrider.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* What tells the pods of this release from all others; with `component` those of one role. Never changes. */}}
{{- define "postrider.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "postrider.labels" -}}
{{ include "postrider.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "postrider.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "postrider.fullname" .) }}
{{- end -}}

{{/* The bucket of blobs; empty where they lie on a volume. */}}
{{- define "postrider.bucket" -}}
{{- $url := dig "blobs" "url" "" .Values.config -}}
{{- if and $url (not (hasPrefix "s3://" $url)) }}
{{- fail (printf "config.blobs.url is %s; it may be s3://bucket/prefix, or empty for a volume (see blobs)" $url) }}
{{- end -}}
{{ $url }}
{{- end -}}

{{- define "postrider.claim" -}}
{{ .Values.blobs.existingClaim | default (printf "%s-blobs" (include "postrider.fullname" .)) }}
{{- end -}}

{{/* Of (dict "root" $ "image" overrides). */}}
{{- define "postrider.image" -}}
{{- $image := mergeOverwrite (deepCopy .root.Values.image) (deepCopy .image) -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository ($image.tag | default .root.Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{/* The settings of one role's pods, as YAML. Of (dict "root" $ "role" name). */}}
{{- define "postrider.role" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy (index .root.Values.roles .role))) -}}
{{- end -}}
